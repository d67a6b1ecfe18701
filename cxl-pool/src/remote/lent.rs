//! Memory lent by a node, as an address space that the client manages itself.
//!
//! The client takes extents of [`Lent::space`]; an extent is an object of the node from
//! [`Lent::expect`] to `Verb::Free`:
//!
//! 1. `expect(offset, len)` tells how long the object at `offset` will be.
//! 2. The first write into it asks the node for room; more writes follow, each byte once.
//! 3. `Verb::Seal` at `offset` commits it with its checksums.
//! 4. Reads of any range inside it, through any driver of the same `Lent`.
//! 5. `Verb::Free` at `offset` frees it; the extent can be expected anew.
//!
//! What was written belongs to the connection of the driver that wrote it and goes with it.

use super::RemoteError;
use super::driver::{Parts, RemoteDriver};
use super::link::Connector;
use super::table::{Entries, Entry, EntryState, Liveness, Objects};
use crate::clock::RealClock;
use crate::source::Source;
use crate::wire::OBJECT_MAX;
use larder_sys::file::FileError;
use larder_sys::io::Driver;
use larder_sys::space::Space;
use parking_lot::Mutex;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Lent {
    connector: Arc<Connector>,
    space: Arc<Space>,
    entries: Arc<Mutex<Entries>>,
}

impl Lent {
    pub(super) fn new(connector: Arc<Connector>, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            connector,
            space: Space::counted(bytes),
            entries: Arc::default(),
        })
    }

    /// Host and port of the node.
    pub fn address(&self) -> &str {
        self.connector.address()
    }

    /// The address space, to take extents from.
    pub const fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Tells that an object of `len` bytes will stand at `offset`.
    pub fn expect(&self, offset: u64, len: u64) -> Result<(), RemoteError> {
        let end = offset.saturating_add(len);
        if len == 0 || len > OBJECT_MAX || end > self.space.len() {
            return Err(RemoteError::Range {
                what: "the end of an object",
                value: end,
                max: self.space.len().min(offset.saturating_add(OBJECT_MAX)),
            });
        }
        let mut entries = self.entries.lock();
        let before = entries.range(..end).next_back();
        if let Some((&start, entry)) = before
            && start + entry.len > offset
        {
            return Err(RemoteError::Range {
                what: "the start of an object, behind one that stands there",
                value: offset,
                max: start,
            });
        }
        let state = EntryState::Expected;
        entries.insert(offset, Entry { len, state });
        Ok(())
    }

    /// A driver that writes, seals and frees; also reads. File 0. It has a connection of its own,
    /// and what it writes is freed with it.
    pub fn writer(&self) -> Result<Box<dyn Driver>, RemoteError> {
        self.driver(&Arc::default())
    }

    /// A driver that reads what was sealed. File 0. It has a connection of its own.
    pub fn reader(&self) -> Result<(Box<dyn Driver>, LentSource), RemoteError> {
        let liveness = Arc::default();
        let driver = self.driver(&liveness)?;
        Ok((driver, self.source(liveness)))
    }

    /// The source of a driver whose connection `liveness` tells of.
    pub(super) fn source(&self, liveness: Arc<Liveness>) -> LentSource {
        LentSource {
            len: self.space.len(),
            address: self.connector.address().to_owned(),
            liveness,
        }
    }

    /// What a driver knows of the objects in it.
    pub(super) fn objects(&self) -> Objects {
        Objects::Lent(Arc::clone(&self.entries))
    }

    fn driver(&self, liveness: &Arc<Liveness>) -> Result<Box<dyn Driver>, RemoteError> {
        let options = self.connector.options();
        let channel = self.connector.channel()?;
        Ok(Box::new(RemoteDriver::new(Parts {
            channel,
            objects: self.objects(),
            check: options.check,
            window: options.window,
            liveness: Arc::clone(liveness),
            clock: Arc::new(RealClock::new()),
        })))
    }
}

/// The source of a reader of lent memory. Lengths of objects are whole pages there.
#[derive(Clone, Debug)]
pub struct LentSource {
    len: u64,
    address: String,
    liveness: Arc<Liveness>,
}

impl Source for LentSource {
    fn name(&self, _file: u32) -> String {
        format!("memory lent by tcp://{}", self.address)
    }

    fn file_len(&self, _file: u32) -> u64 {
        self.len
    }

    fn check(&self, _file: u32) -> Result<(), FileError> {
        self.liveness.check(&self.address)
    }
}
