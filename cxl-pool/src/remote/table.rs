//! The files of a driver: which object of the node stands where.

use crate::wire::ObjectHash;
use crate::wire::capability::Capability;
use larder_sys::file::FileError;
use larder_sys::io::Errno;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a connection still stands, for those who do not own it.
#[derive(Debug, Default)]
pub(super) struct Liveness(AtomicBool);

impl Liveness {
    pub(super) fn is_lost(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn lose(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Fails once the connection is lost. Objects never change; but a node that is gone holds
    /// none, and one that was restarted is another. A connection is of one start of a node, so it
    /// is enough to ask whether it stands.
    pub(super) fn check(&self, address: &str) -> Result<(), FileError> {
        if self.is_lost() {
            let address = address.to_owned();
            return Err(FileError::NodeLost { address });
        }
        Ok(())
    }
}

/// An object in the address space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) len: u64,
    pub(super) state: EntryState,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum EntryState {
    Expected,
    /// The node has been asked for room.
    Asked,
    Open(Capability),
    Sealed(Capability),
}

/// Objects by first byte; no two overlap.
pub(super) type Entries = BTreeMap<u64, Entry>;

/// Where an offset of a driver's file leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Located {
    /// An object that can be read, and the place in it.
    Whole(Capability, u64),
    /// Room that can be written.
    Open(Capability),
    Asked,
    /// Nobody has asked for the room, of so many bytes, yet.
    Expected(u64),
}

/// The files of a driver.
#[derive(Debug)]
pub(super) enum Objects {
    /// One object for each file, read only.
    Content(Arc<[(ObjectHash, Capability)]>),
    /// One file: an address space with objects in it.
    Lent(Arc<Mutex<Entries>>),
}

impl Objects {
    /// The connection may own objects of the node.
    pub(super) const fn lends(&self) -> bool {
        matches!(self, Self::Lent(_))
    }

    fn lent(&self, file: u32) -> Result<&Mutex<Entries>, Errno> {
        match self {
            Self::Content(_) => Err(Errno::EROFS),
            Self::Lent(entries) if file == 0 => Ok(entries),
            Self::Lent(_) => Err(Errno::EBADF),
        }
    }

    /// What stands at an offset.
    pub(super) fn locate(&self, file: u32, offset: u64) -> Result<Located, Errno> {
        if let Self::Content(content) = self {
            let (_, capability) = content.get(file as usize).ok_or(Errno::EBADF)?;
            return Ok(Located::Whole(*capability, offset));
        }
        let entries = self.lent(file)?.lock();
        let (&start, entry) = entries.range(..=offset).next_back().ok_or(Errno::ENOENT)?;
        match entry.state {
            _ if offset >= start + entry.len => Err(Errno::ENOENT),
            EntryState::Sealed(capability) => Ok(Located::Whole(capability, offset - start)),
            EntryState::Open(capability) => Ok(Located::Open(capability)),
            EntryState::Asked => Ok(Located::Asked),
            EntryState::Expected => Ok(Located::Expected(entry.len)),
        }
    }

    /// Where a write goes: its object, that object's first byte, and the place in it. An object
    /// that is expected counts as asked for from now on.
    pub(super) fn begin_write(
        &self,
        file: u32,
        offset: u64,
        len: u64,
    ) -> Result<(Located, u64, u64), Errno> {
        let mut entries = self.lent(file)?.lock();
        let found = entries.range_mut(..=offset).next_back();
        let (&start, entry) = found.ok_or(Errno::ENOENT)?;
        if len == 0 || offset.saturating_add(len) > start + entry.len {
            return Err(Errno::EINVAL);
        }
        let located = match entry.state {
            EntryState::Sealed(_) => return Err(Errno::EROFS),
            EntryState::Open(capability) => Located::Open(capability),
            EntryState::Asked => Located::Asked,
            EntryState::Expected => {
                entry.state = EntryState::Asked;
                Located::Expected(entry.len)
            }
        };
        Ok((located, start, offset - start))
    }

    /// The node has answered a request for room.
    pub(super) fn granted(&self, start: u64, capability: Option<Capability>) {
        if let Ok(entries) = self.lent(0)
            && let Some(entry) = entries.lock().get_mut(&start)
        {
            entry.state = capability.map_or(EntryState::Expected, EntryState::Open);
        }
    }

    /// The capability under which an object of `len` bytes is committed.
    pub(super) fn begin_seal(&self, file: u32, start: u64, len: u64) -> Result<Capability, Errno> {
        let entries = self.lent(file)?.lock();
        let entry = entries.get(&start).ok_or(Errno::ENOENT)?;
        match entry.state {
            EntryState::Open(capability) if entry.len == len => Ok(capability),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn sealed(&self, start: u64, capability: Capability) {
        if let Ok(entries) = self.lent(0)
            && let Some(entry) = entries.lock().get_mut(&start)
        {
            entry.state = EntryState::Sealed(capability);
        }
    }

    /// Forgets an object; its capability, if the node knows it.
    pub(super) fn take(&self, file: u32, start: u64) -> Result<Option<Capability>, Errno> {
        let mut entries = self.lent(file)?.lock();
        match entries.get(&start).map(|entry| entry.state) {
            None | Some(EntryState::Expected) => {
                entries.remove(&start);
                Ok(None)
            }
            Some(EntryState::Asked) => Err(Errno::EBUSY),
            Some(EntryState::Open(capability) | EntryState::Sealed(capability)) => {
                entries.remove(&start);
                Ok(Some(capability))
            }
        }
    }
}
