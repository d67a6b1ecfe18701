//! A door for simulation: a node without threads and sockets, whose sessions take turns.

use super::Shared;
use super::places::Places;
use super::session::{Session, Trust};
use super::store::{Disk, Store};
use crate::clock::Clock;
use crate::turns::Actor;
use crate::wire::capability::{Capability, Signer};
use crate::wire::reply::{Refusal, Stat};
use crate::wire::request::Kind;
use crate::wire::{ObjectHash, sums};
use larder_sys::mapping::{MapError, Mapping};
use larder_sys::net::{Channel, Transport};
use larder_sys::space::Space;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A start of a node; dropping it ends its sessions at their next turn.
pub struct SimNode {
    shared: Arc<Shared>,
}

impl SimNode {
    /// A node of `mem` bytes of memory.
    pub fn start(mem: u64, incarnation: u64, clock: Arc<dyn Clock>) -> Result<Self, MapError> {
        let arena = Space::mapped(Mapping::new(mem)?);
        let signer = Signer::new(1, incarnation, [incarnation as u8; 32]);
        let disk: Option<Disk> = None;
        let shared = Shared {
            store: Store::new(arena, disk, signer),
            key: None,
            clock,
            transport: Transport::Best,
            lends: false,
            places: Places::default(),
            stopping: AtomicBool::new(false),
            clients: Mutex::new(HashMap::new()),
            next: AtomicU64::new(1),
        };
        let shared = Arc::new(shared);
        Ok(Self { shared })
    }

    /// A session with a client that has shaken hands.
    pub fn session(&self, channel: Box<dyn Channel>) -> Box<dyn Actor> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut session = Session::new(Arc::clone(&self.shared), channel, id);
        session.trust = Trust::Trusted;
        Box::new(SessionActor(session))
    }

    /// Stores content; `None` if there is no room.
    pub fn put(&self, bytes: &[u8]) -> Option<(ObjectHash, Capability)> {
        let hash = ObjectHash::of(bytes);
        let capability = self.store(bytes, Kind::Content(hash))?;
        Some((hash, capability))
    }

    /// Stores bytes that nobody names, as connection 0; `None` if there is no room.
    pub fn lend(&self, bytes: &[u8]) -> Option<Capability> {
        self.store(bytes, Kind::Lent)
    }

    /// Frees what [`Self::lend`] stored.
    pub fn free(&self, capability: &Capability) -> Result<(), Refusal> {
        self.shared.store.free(capability, 0)
    }

    fn store(&self, bytes: &[u8], kind: Kind) -> Option<Capability> {
        let store = &self.shared.store;
        match store.grant(bytes.len() as u64, kind).ok()? {
            Err(capability) => Some(capability),
            Ok(mut grant) => {
                let scratch = grant.scratch.as_mut()?;
                scratch.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
                store.commit(grant, &sums::commit_crcs(bytes), 0).ok()
            }
        }
    }

    /// Capabilities for content, and bytes that hold nothing.
    pub fn open(&self, hashes: &[ObjectHash]) -> (u64, Vec<Option<Capability>>) {
        let stat = self.stat();
        let free = stat.mem_bytes.saturating_sub(stat.mem_used);
        (free, self.shared.store.open(hashes))
    }

    pub fn incarnation(&self) -> u64 {
        self.shared.store.signer().incarnation
    }

    /// Objects and bytes now.
    pub fn stat(&self) -> Stat {
        self.shared.store.stat(0)
    }
}

impl Drop for SimNode {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
    }
}

struct SessionActor(Session);

impl Actor for SessionActor {
    fn turn(&mut self) -> bool {
        self.0.turn().is_none()
    }
}
