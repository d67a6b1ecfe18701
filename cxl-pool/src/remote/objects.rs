//! Content of a node as files: file `i` is the `i`-th object, read only.

use super::RemoteError;
use super::driver::{Parts, RemoteDriver};
use super::link::Connector;
use super::table::{Liveness, Objects};
use crate::source::Source;
use crate::clock::RealClock;
use crate::wire::ObjectHash;
use crate::wire::capability::Capability;
use larder_sys::file::FileError;
use larder_sys::io::Driver;
use std::sync::Arc;

/// The source of a driver that reads content.
#[derive(Clone, Debug)]
pub struct ObjectSource {
    objects: Arc<[(ObjectHash, Capability)]>,
    address: String,
    liveness: Arc<Liveness>,
}

impl ObjectSource {
    pub(super) fn new(
        objects: Arc<[(ObjectHash, Capability)]>,
        address: &str,
        liveness: Arc<Liveness>,
    ) -> Self {
        let address = address.to_owned();
        Self {
            objects,
            address,
            liveness,
        }
    }
}

impl Source for ObjectSource {
    fn name(&self, file: u32) -> String {
        let (hash, _) = self.objects[file as usize];
        format!("object {hash} of tcp://{}", self.address)
    }

    fn file_len(&self, file: u32) -> u64 {
        self.objects[file as usize].1.length
    }

    fn check(&self, _file: u32) -> Result<(), FileError> {
        self.liveness.check(&self.address)
    }
}

pub(super) fn open_reader(
    connector: &Connector,
    capabilities: &[(ObjectHash, Capability)],
) -> Result<(Box<dyn Driver>, ObjectSource), RemoteError> {
    let liveness = Arc::default();
    let objects: Arc<[_]> = Arc::from(capabilities);
    let driver = RemoteDriver::new(Parts {
        channel: connector.channel()?,
        objects: Objects::Content(Arc::clone(&objects)),
        check: connector.options().check,
        window: connector.options().window,
        liveness: Arc::clone(&liveness),
        clock: Arc::new(RealClock::new()),
    });
    let source = ObjectSource::new(objects, connector.address(), liveness);
    Ok((Box::new(driver), source))
}
