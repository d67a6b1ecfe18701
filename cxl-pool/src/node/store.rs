//! What a node holds: objects in its memory and on its disk, and the names of content.
//!
//! Life of an object:
//! 1. Granted: a place in the table and an extent, both owned by one connection.
//! 2. Committed: its checksums, and for content its name, have been proven; from now on it is
//!    immutable and shared by handles, each of which pins the bytes.
//! 3. Demoted, if the node has a disk and needs the memory; read from there by ranges.
//! 4. Freed: by its owner, with its owner's connection, or, content that no name keeps, when room
//!    is needed. The place gets a new generation, so older capabilities are stale.
//!
//! Lock order: each lock alone; nothing is read, written or waited for under one.

use super::names::Names;
use super::slab::{Object, Owner, Slab};
use crate::wire::capability::{Capability, Claim, Signer, Standing};
use crate::wire::reply::{NamedModel, Refusal, Stat};
use crate::wire::request::Kind;
use crate::wire::sums::Sums;
use crate::wire::{NAME_MAX, ObjectHash};
use larder_sys::lease::Scratch;
use larder_sys::net::local::Rest;
use larder_sys::space::{Extent, Space};
use larder_sys::tierfile::TierFile;
use parking_lot::Mutex;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// The only tenant of this version.
pub(super) const TENANT: u32 = 0;

/// Disk behind the memory: a file, and who owns which bytes of it.
pub(super) struct Disk {
    pub(super) file: Box<dyn TierFile>,
    pub(super) space: Arc<Space>,
}

/// See the module.
pub(super) struct Store {
    arena: Arc<Space>,
    disk: Option<Disk>,
    signer: Signer,
    state: Mutex<State>,
    /// Pages of connections that ended before their clients had read them.
    rests: Mutex<Vec<Rest>>,
}

struct State {
    slab: Slab,
    names: Names,
    demoted: u64,
}

/// Room for an object that is being written.
pub(super) struct Grant {
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) len: u64,
    pub(super) kind: Kind,
    /// `None` while a receive in flight owns it.
    pub(super) scratch: Option<Scratch>,
    /// Where the data that comes next belongs.
    pub(super) put_at: u64,
}

/// Where the bytes of an object can be read.
pub(super) struct Found {
    pub(super) sums: Arc<Sums>,
    pub(super) bytes: Bytes,
}

pub(super) enum Bytes {
    Memory(Arc<Scratch>),
    Disk(Arc<Extent>),
}

impl Store {
    pub(super) fn new(arena: Arc<Space>, disk: Option<Disk>, signer: Signer) -> Self {
        Self {
            arena,
            disk,
            signer,
            state: Mutex::new(State {
                slab: Slab::default(),
                names: Names::default(),
                demoted: 0,
            }),
            rests: Mutex::default(),
        }
    }

    /// Keeps pages that a client can still read until it has, or is gone.
    pub(super) fn park(&self, rest: Rest) {
        self.take_back();
        self.rests.lock().push(rest);
    }

    /// Takes back what has been read by now.
    fn take_back(&self) {
        self.rests.lock().retain(|rest| !rest.is_read());
    }

    pub(super) const fn signer(&self) -> &Signer {
        &self.signer
    }

    /// What other processes map the memory by, if they may.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.arena.mapping()?.descriptor()
    }

    pub(super) fn mem_bytes(&self) -> u64 {
        self.arena.len()
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.space.len())
    }

    /// Room for an object, or the capability of content that is stored already.
    pub(super) fn grant(&self, len: u64, kind: Kind) -> Result<Result<Grant, Capability>, Refusal> {
        if let Kind::Content(hash) = kind {
            let state = self.state.lock();
            if let Some(index) = state.slab.find(&hash) {
                return Ok(Err(self.capability(&state.slab, index)));
            }
        }
        let scratch = self.room(len)?;
        let (index, generation) = self.state.lock().slab.reserve()?;
        Ok(Ok(Grant {
            index,
            generation,
            len,
            kind,
            scratch: Some(scratch),
            put_at: 0,
        }))
    }

    /// The capability under which a grant is written.
    pub(super) fn grant_capability(&self, grant: &Grant) -> Capability {
        self.signer.sign(Claim {
            extent: grant.index,
            generation: grant.generation,
            length: grant.len,
            crc: 0,
            tenant: TENANT,
        })
    }

    /// Gives the place of a grant back.
    pub(super) fn abandon(&self, grant: &Grant) {
        self.state.lock().slab.release(grant.index);
    }

    /// Makes a written grant an object, if its bytes are those that the writer meant.
    pub(super) fn commit(
        &self,
        mut grant: Grant,
        crcs: &[u32],
        connection: u64,
    ) -> Result<Capability, Refusal> {
        let scratch = grant.scratch.take().ok_or(Refusal::Misuse)?;
        let bytes = &scratch.bytes()[..grant.len as usize];
        let sums = Sums::of(bytes);
        let owner = match grant.kind {
            Kind::Content(hash) => Owner::Content(hash),
            Kind::Lent => Owner::Lent { connection },
        };
        let is_meant = match grant.kind {
            Kind::Content(hash) => ObjectHash::of(bytes) == hash,
            Kind::Lent => true,
        };
        if sums.pieces() != crcs || !is_meant {
            self.abandon(&grant);
            return Err(Refusal::Mismatch);
        }
        let mut state = self.state.lock();
        if let Kind::Content(hash) = grant.kind
            && let Some(index) = state.slab.find(&hash)
        {
            // Somebody else was faster with the same content.
            state.slab.release(grant.index);
            return Ok(self.capability(&state.slab, index));
        }
        let object = Object {
            len: grant.len,
            sums: Arc::new(sums),
            owner,
            memory: Some(Arc::new(scratch)),
            disk: None,
            holders: 0,
            used: 0,
        };
        state.slab.fill(grant.index, object);
        Ok(self.capability(&state.slab, grant.index))
    }

    fn capability(&self, slab: &Slab, index: u32) -> Capability {
        let (generation, object) = slab.object(index);
        self.signer.sign(Claim {
            extent: index,
            generation,
            length: object.len,
            crc: object.sums.whole(),
            tenant: TENANT,
        })
    }

    /// Whether this node made the capability for this client, in this run of it.
    pub(super) fn check(&self, capability: &Capability) -> Result<(), Refusal> {
        match self.signer.check(capability, TENANT) {
            Standing::Good => Ok(()),
            Standing::Stale => Err(Refusal::Stale),
            Standing::Forged => Err(Refusal::Forged),
        }
    }

    /// The object of a capability; the handle pins its bytes.
    pub(super) fn find(&self, capability: &Capability) -> Result<Found, Refusal> {
        self.check(capability)?;
        let mut state = self.state.lock();
        let object = state.slab.touch(capability.extent, capability.generation);
        let object = object.ok_or(Refusal::Stale)?;
        let bytes = match (&object.memory, &object.disk) {
            (Some(memory), _) => Bytes::Memory(Arc::clone(memory)),
            (None, Some(extent)) => Bytes::Disk(Arc::clone(extent)),
            (None, None) => unreachable!("an object is somewhere"),
        };
        Ok(Found {
            sums: Arc::clone(&object.sums),
            bytes,
        })
    }

    /// Frees an object that `connection` lent. Content is only let go.
    pub(super) fn free(&self, capability: &Capability, connection: u64) -> Result<(), Refusal> {
        self.check(capability)?;
        let mut state = self.state.lock();
        let object = state.slab.touch(capability.extent, capability.generation);
        match object.ok_or(Refusal::Stale)?.owner {
            Owner::Content(_) => Ok(()),
            Owner::Lent { connection: owner } if owner == connection => {
                state.slab.release(capability.extent);
                Ok(())
            }
            Owner::Lent { .. } => Err(Refusal::Forged),
        }
    }

    /// Frees everything that a connection lent; how many objects that were.
    pub(super) fn free_lent(&self, connection: u64) -> usize {
        let mut state = self.state.lock();
        let lent = state.slab.lent_by(connection);
        for &index in &lent {
            state.slab.release(index);
        }
        lent.len()
    }

    /// Capabilities for content that is stored.
    pub(super) fn open(&self, hashes: &[ObjectHash]) -> Vec<Option<Capability>> {
        let state = self.state.lock();
        let find = |hash| state.slab.find(hash);
        let opened = hashes.iter().map(find);
        opened
            .map(|index| index.map(|index| self.capability(&state.slab, index)))
            .collect()
    }

    /// Names content. The name keeps the root and every one of `held`.
    pub(super) fn set_name(
        &self,
        name: String,
        root: ObjectHash,
        held: &[ObjectHash],
    ) -> Result<(), Refusal> {
        debug_assert!(name.len() <= NAME_MAX, "names are checked when decoded");
        let state = &mut *self.state.lock();
        let all = std::iter::once(&root).chain(held);
        let mut kept: Vec<u32> = all
            .map(|hash| state.slab.find(hash).ok_or(Refusal::Missing))
            .collect::<Result<_, _>>()?;
        kept.sort_unstable();
        kept.dedup();
        for &index in &kept {
            state.slab.object_mut(index).holders += 1;
        }
        match state.names.set(name, root, kept) {
            Ok(old) => state.let_go(&old),
            Err((kept, refusal)) => {
                for &index in &kept {
                    state.slab.object_mut(index).holders -= 1;
                }
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Removes a name, and content that no other name keeps; whether the name was there.
    pub(super) fn remove_name(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        let Some(kept) = state.names.remove(name) else {
            return false;
        };
        state.let_go(&kept);
        true
    }

    pub(super) fn resolve(&self, name: &str) -> Option<ObjectHash> {
        self.state.lock().names.get(name)
    }

    /// Names behind `after`, in order, as many as fit one reply.
    pub(super) fn list(&self, after: &str) -> Vec<NamedModel> {
        let state = self.state.lock();
        let bytes = |kept: &[u32]| kept.iter().map(|&i| state.slab.object(i).1.len).sum();
        state.names.list(after, bytes)
    }

    pub(super) fn stat(&self, clients: u64) -> Stat {
        self.take_back();
        let state = self.state.lock();
        let (content, lent) = state.slab.counts();
        Stat {
            mem_bytes: self.mem_bytes(),
            mem_used: self.arena.used_bytes(),
            disk_bytes: self.disk_bytes(),
            disk_used: self.disk.as_ref().map_or(0, |disk| disk.space.used_bytes()),
            content,
            lent,
            clients,
            demoted: state.demoted,
        }
    }

    /// Memory for `len` bytes; older objects go to disk, or content that no name keeps is dropped.
    pub(super) fn room(&self, len: u64) -> Result<Scratch, Refusal> {
        self.take_back();
        loop {
            if let Some(extent) = self.arena.alloc_low(len) {
                extent.enlarge_pages();
                return Ok(Scratch::new(extent));
            }
            if len > self.arena.len() || !self.make_room()? {
                let free = self.arena.len() - self.arena.used_bytes();
                return Err(Refusal::Full { needed: len, free });
            }
        }
    }

    /// Takes the memory of the object that was used longest ago and can give it; `false` if none
    /// can.
    fn make_room(&self) -> Result<bool, Refusal> {
        let mut state = self.state.lock();
        if let Some(index) = state.slab.oldest(|object| object.disk.is_some()) {
            state.slab.object_mut(index).memory = None;
            return Ok(true);
        }
        if let Some(disk) = &self.disk
            && let Some(index) = state
                .slab
                .oldest(|object| disk.space.largest_hole() >= object.len && object.memory.is_some())
        {
            let (generation, object) = state.slab.object(index);
            let (len, memory) = (object.len, object.memory.clone());
            let (Some(memory), Some(extent)) = (memory, disk.space.alloc_low(len)) else {
                return Ok(false);
            };
            drop(state);
            let written = disk.file.write(extent.start(), Arc::clone(&memory));
            drop(memory);
            if let Err(error) = written {
                tracing::error!(%error, bytes = len, "write of an object to the disk tier");
                return Err(Refusal::Disk);
            }
            let mut state = self.state.lock();
            state.demoted += 1;
            if let Some(object) = state.slab.touch(index, generation) {
                object.disk = Some(Arc::new(extent));
                object.memory = None;
            }
            return Ok(true);
        }
        let is_loose =
            |object: &Object| matches!(object.owner, Owner::Content(_)) && object.holders == 0;
        if let Some(index) = state.slab.oldest(is_loose) {
            state.slab.release(index);
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads the whole pages around a range from disk; the range's place in what comes back.
    pub(super) fn read_disk(
        &self,
        extent: &Arc<Extent>,
        offset: u64,
        len: u64,
    ) -> Result<(Scratch, usize), Refusal> {
        let disk = self.disk.as_ref().ok_or(Refusal::Disk)?;
        let granule = larder_sys::space::GRANULE;
        let start = offset / granule * granule;
        let whole = (offset + len).next_multiple_of(granule) - start;
        let target = self.room(whole)?;
        let (target, outcome) = disk.file.read(extent.start() + start, target);
        if let Err(error) = outcome {
            tracing::error!(%error, bytes = len, "read of an object from the disk tier");
            return Err(Refusal::Disk);
        }
        Ok((target, (offset - start) as usize))
    }
}

impl State {
    /// A name lets `kept` go; what no other name keeps is freed.
    fn let_go(&mut self, kept: &[u32]) {
        for &index in kept {
            let object = self.slab.object_mut(index);
            object.holders -= 1;
            if object.holders == 0 {
                self.slab.release(index);
            }
        }
    }
}
