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
//! What was written belongs to the connection of the driver that wrote it and goes with it. When
//! the node has begun another life, [`Lent::renew`] starts over with nothing in it.
//!
//! On the node's own host objects can be read where they stand too, see [`Lent::place`].

use super::RemoteError;
use super::driver::{Parts, RemoteDriver, Role};
use super::health::{Health, Standing};
use super::link::Connector;
use super::placed::PlacedLoan;
use super::table::{Entry, EntryState, Loan, Objects};
use crate::source::Source;
use crate::wire::OBJECT_MAX;
use larder_sys::file::FileError;
use larder_sys::io::Driver;
use larder_sys::space::Space;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Addresses of a loan that may grow: more than any node lends.
const ADDRESSES: u64 = 1 << 46;

/// See the module.
#[derive(Debug)]
pub struct Lent {
    connector: Arc<Connector>,
    space: Arc<Space>,
    loan: Arc<Loan>,
    /// Where objects are read in place, and whether they are to be.
    placed: Mutex<Option<Arc<PlacedLoan>>>,
    wants_place: AtomicBool,
}

impl Lent {
    pub(super) fn new(connector: Arc<Connector>, bytes: u64) -> Arc<Self> {
        let loan = Loan::default();
        loan.capacity.store(bytes, Ordering::Release);
        loan.stands.store(bytes > 0, Ordering::Release);
        Arc::new(Self {
            connector,
            space: Space::counted(ADDRESSES),
            loan: Arc::new(loan),
            placed: Mutex::default(),
            wants_place: AtomicBool::new(false),
        })
    }

    /// What is lent is there; `false` from the loss of the connection that wrote it until
    /// [`Self::renew`].
    pub fn stands(&self) -> bool {
        self.loan.stands.load(Ordering::Acquire)
    }

    /// Bytes that may be used in this life.
    pub fn capacity(&self) -> u64 {
        self.loan.capacity.load(Ordering::Acquire)
    }

    pub fn health(&self) -> &Arc<Health> {
        self.connector.health()
    }

    /// Begins anew with what the node lends now; `false` if the node is not there. The caller has
    /// freed every extent of the space.
    pub fn renew(&self) -> bool {
        let health = self.connector.health();
        if self.stands() || health.standing() != Standing::Alive || self.space.used_bytes() > 0 {
            return false;
        }
        self.loan.entries.lock().clear();
        self.loan
            .capacity
            .store(health.free_bytes(), Ordering::Release);
        self.loan.stands.store(true, Ordering::Release);
        if self.wants_place.load(Ordering::Acquire) {
            // What is still read where it stood in the life before stays there. A node that does
            // not answer now is read over its link.
            *self.placed.lock() = None;
            let _ = self.place();
        }
        true
    }

    /// Maps the node's memory, so that objects can be read where they stand, in this life and every
    /// one to come; `false` where the node is not there yet, not on this host, another user's, or
    /// serves TCP only (`Transport` of either side).
    pub fn place(&self) -> Result<bool, RemoteError> {
        self.wants_place.store(true, Ordering::Release);
        if self.connector.health().life() == 0 {
            return Ok(false);
        }
        let placed = PlacedLoan::take(&self.connector, &self.loan)?;
        let is_placed = placed.is_some();
        *self.placed.lock() = placed.map(Arc::new);
        Ok(is_placed)
    }

    /// What objects are read by where they stand; `None` where they are not.
    pub fn placed(&self) -> Option<Arc<PlacedLoan>> {
        self.placed.lock().clone()
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
        if len == 0 || len > OBJECT_MAX || end > self.capacity() {
            return Err(RemoteError::Range {
                what: "the end of an object",
                value: end,
                max: self.capacity().min(offset.saturating_add(OBJECT_MAX)),
            });
        }
        let mut entries = self.loan.entries.lock();
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
        self.driver(Role::Writer)
    }

    /// A driver that reads what was sealed. File 0. It has a connection of its own.
    pub fn reader(&self) -> Result<(Box<dyn Driver>, LentSource), RemoteError> {
        let source = LentSource {
            len: self.space.len(),
            address: self.connector.address().to_owned(),
        };
        Ok((self.driver(Role::Reader)?, source))
    }

    fn driver(&self, role: Role) -> Result<Box<dyn Driver>, RemoteError> {
        let options = self.connector.options();
        // A node that has not been reached yet is dialled when it is there.
        let is_there = self.connector.health().life() > 0;
        let channel = is_there.then(|| self.connector.channel()).transpose()?;
        Ok(Box::new(RemoteDriver::new(Parts {
            channel,
            role,
            objects: Objects::Lent(Arc::clone(&self.loan)),
            check: options.check,
            window: options.window,
            dial: Arc::clone(&self.connector) as _,
            health: Arc::clone(self.connector.health()),
            clock: Arc::clone(self.connector.clock()),
        })))
    }
}

/// The source of a reader of lent memory. Lengths of objects are whole pages there.
#[derive(Clone, Debug)]
pub struct LentSource {
    len: u64,
    address: String,
}

impl Source for LentSource {
    fn name(&self, _file: u32) -> String {
        format!("memory lent by tcp://{}", self.address)
    }

    fn file_len(&self, _file: u32) -> u64 {
        self.len
    }

    /// Every answer of the node is to a capability for what was committed.
    fn check(&self, _file: u32) -> Result<(), FileError> {
        Ok(())
    }
}
