//! Content of a node as files: file `i` is the `i`-th object, read only.

use super::driver::{Parts, RemoteDriver, Role};
use super::link::Connector;
use super::table::{Contents, Objects};
use crate::source::Source;
use larder_sys::file::FileError;
use larder_sys::io::Driver;
use larder_sys::net::Channel;
use std::sync::Arc;

/// The source of a driver that reads content.
#[derive(Clone, Debug)]
pub struct ObjectSource {
    contents: Arc<Contents>,
    address: String,
}

impl ObjectSource {
    pub(super) const fn new(contents: Arc<Contents>, address: String) -> Self {
        Self { contents, address }
    }

    /// The node has all of the content, in the life that it is in.
    pub fn is_whole(&self) -> bool {
        self.contents.is_whole()
    }

    /// Times that all of the content was opened: once at first, and once for every life of the node
    /// in which it had it.
    pub fn openings(&self) -> u64 {
        self.contents.openings()
    }

    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }
}

impl Source for ObjectSource {
    fn name(&self, file: u32) -> String {
        let hash = self.contents.hashes()[file as usize];
        format!("object {hash} of tcp://{}", self.address)
    }

    fn file_len(&self, file: u32) -> u64 {
        self.contents
            .get(file)
            .map_or(0, |capability| capability.length)
    }

    /// Content never changes under its name, and every answer of the node is to a capability.
    fn check(&self, _file: u32) -> Result<(), FileError> {
        Ok(())
    }
}

pub(super) fn reader(
    connector: &Arc<Connector>,
    channel: Option<Box<dyn Channel>>,
    source: &ObjectSource,
) -> Box<dyn Driver> {
    Box::new(RemoteDriver::new(Parts {
        channel,
        role: Role::Reader,
        objects: Objects::Content(Arc::clone(&source.contents)),
        check: connector.options().check,
        window: connector.options().window,
        dial: Arc::clone(connector) as _,
        health: Arc::clone(connector.health()),
        clock: Arc::clone(connector.clock()),
    }))
}
