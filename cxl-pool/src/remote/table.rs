//! The files of a driver: which object of the node stands where.

use crate::wire::ObjectHash;
use crate::wire::capability::Capability;
use larder_sys::io::Errno;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Content of a node, opened. Lengths are those of the names, whoever opens them.
#[derive(Debug)]
pub(super) struct Contents {
    hashes: Box<[ObjectHash]>,
    opened: Mutex<Arc<[Capability]>>,
    /// The node had all of it when it was asked last.
    is_whole: AtomicBool,
    /// Times that all of it was opened.
    openings: AtomicU64,
}

impl Contents {
    pub(super) fn new(opened: &[(ObjectHash, Capability)]) -> Self {
        Self {
            hashes: opened.iter().map(|(hash, _)| *hash).collect(),
            opened: Mutex::new(opened.iter().map(|(_, capability)| *capability).collect()),
            is_whole: AtomicBool::new(true),
            openings: AtomicU64::new(1),
        }
    }

    /// The same content at a node that has not been asked for it.
    pub(super) fn elsewhere(&self) -> Self {
        Self {
            hashes: self.hashes.clone(),
            opened: Mutex::new(Arc::clone(&self.opened.lock())),
            is_whole: AtomicBool::new(false),
            openings: AtomicU64::new(0),
        }
    }

    pub(super) fn hashes(&self) -> &[ObjectHash] {
        &self.hashes
    }

    pub(super) fn get(&self, file: u32) -> Option<Capability> {
        self.opened.lock().get(file as usize).copied()
    }

    /// All of it as it was opened last.
    pub(super) fn capabilities(&self) -> Arc<[Capability]> {
        Arc::clone(&self.opened.lock())
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }

    pub(super) fn openings(&self) -> u64 {
        self.openings.load(Ordering::Acquire)
    }

    /// Takes what another start of the node opened. A node that lacks some of it, or gives it
    /// another length, holds something else.
    pub(super) fn reopen(&self, found: &[Option<Capability>]) {
        let mut opened = self.opened.lock();
        let is_same = |(found, known): (&Option<Capability>, &Capability)| {
            found.filter(|found| found.length == known.length)
        };
        let pairs = found.iter().zip(opened.iter());
        let again: Option<Arc<[Capability]>> = pairs.map(is_same).collect();
        let again = again.filter(|again| again.len() == opened.len());
        let is_whole = again.is_some();
        if let Some(again) = again {
            *opened = again;
            self.openings.fetch_add(1, Ordering::AcqRel);
        }
        self.is_whole.store(is_whole, Ordering::Release);
    }
}

/// What a node lends to one client, from one life to the next.
#[derive(Debug, Default)]
pub(super) struct Loan {
    pub(super) entries: Mutex<Entries>,
    /// Bytes that may be used.
    pub(super) capacity: AtomicU64,
    /// What was written is there: the connection that wrote it stands.
    pub(super) stands: AtomicBool,
}

impl Loan {
    /// The capability of the object at `start`, if it is whole.
    pub(super) fn sealed(&self, start: u64) -> Option<Capability> {
        match self.entries.lock().get(&start)?.state {
            EntryState::Sealed(capability) => Some(capability),
            _ => None,
        }
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
    Content(Arc<Contents>),
    /// One file: an address space with objects in it.
    Lent(Arc<Loan>),
}

impl Objects {
    /// The connection that wrote what is lent is lost, and all of that with it.
    pub(super) fn lose(&self) {
        if let Self::Lent(loan) = self {
            loan.stands.store(false, Ordering::Release);
        }
    }

    /// There is something that a new connection could be used for.
    pub(super) fn may_dial(&self) -> bool {
        match self {
            Self::Content(contents) => contents.is_whole(),
            Self::Lent(loan) => loan.stands.load(Ordering::Acquire),
        }
    }

    fn lent(&self, file: u32) -> Result<&Mutex<Entries>, Errno> {
        match self {
            Self::Content(_) => Err(Errno::EROFS),
            Self::Lent(loan) if file == 0 => Ok(&loan.entries),
            Self::Lent(_) => Err(Errno::EBADF),
        }
    }

    /// What stands at an offset.
    pub(super) fn locate(&self, file: u32, offset: u64) -> Result<Located, Errno> {
        if let Self::Content(content) = self {
            let capability = content.get(file).ok_or(Errno::EBADF)?;
            return Ok(Located::Whole(capability, offset));
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
