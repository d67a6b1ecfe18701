//! Homes: lower tiers that keep blocks the fast tier has no room for.

use larder_pool::block::stored_spec;
use larder_pool::mover::{Mover, Request, Store};
use larder_pool::remote::Lent;
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::slot::State;
use larder_pool::sys::space::{Extent, Space};
use larder_pool::table::{home_slot, slot_of};
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::{BlockId, PathId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
#[derive(Clone, Debug)]
pub struct Home {
    /// Such as `nvme`.
    pub name: String,
    /// Bytes of the tier.
    pub space: Arc<Space>,
    /// Paths from and to the fast tier.
    pub write: PathId,
    pub read: PathId,
    /// The node's side of the tier, which must be told of every object first.
    pub lent: Option<Arc<Lent>>,
    /// The node of the model, whose link its weights come over too.
    pub is_origin: bool,
    /// Used even where another tier would do better.
    pub is_forced: bool,
}

/// The homes of a session, the fastest first, each with a slot of its own per block.
#[derive(Clone)]
pub struct Homes {
    pub list: Vec<Home>,
    pub mover: Arc<Mover>,
    /// Homes that are gone, with all that was there.
    lost: Arc<[AtomicBool]>,
}

impl Homes {
    pub fn new(list: Vec<Home>, mover: Arc<Mover>) -> Self {
        let lost = list.iter().map(|_| AtomicBool::new(false)).collect();
        Self { list, mover, lost }
    }

    /// Home `n` is gone: nothing is asked of it any more.
    pub fn lose(&self, n: usize) {
        self.lost[n].store(true, Ordering::Release);
    }

    /// Home `n` is gone.
    pub fn is_lost(&self, n: usize) -> bool {
        self.lost[n].load(Ordering::Acquire)
    }

    /// The first home in which the slot of the block is in a state that `is` accepts.
    fn find(&self, block: BlockId, is: impl Fn(State) -> bool) -> Option<usize> {
        let table = self.mover.table();
        let state = |n: usize| table.state(home_slot(block, n));
        (0..self.list.len()).find(|&n| !self.is_lost(n) && is(state(n)))
    }

    /// Starts to write a ready block to the first home that takes it; `false` if none does.
    pub fn store(&self, block: BlockId, from: &ReadLease, bytes: u64) -> bool {
        (0..self.list.len()).any(|n| self.store_at(n, block, from, bytes))
    }

    /// Starts to write a ready block to home `n`; `false` if it takes no more.
    pub fn store_at(&self, n: usize, block: BlockId, from: &ReadLease, bytes: u64) -> bool {
        let home = &self.list[n];
        if self.is_lost(n) || self.mover.is_closed(home.write) {
            return false;
        }
        let Some(extent) = home.space.alloc_low(bytes) else {
            return false;
        };
        if let Some(lent) = &home.lent
            && lent.expect(extent.start(), extent.len()).is_err()
        {
            return false;
        }
        let store = Store {
            block,
            from: from.clone(),
            slot: home_slot(block, n),
            class: Class::Demote,
            due: block.index() as u64,
        };
        self.mover.store(home.write, store, extent).is_ok()
    }

    /// The block is on its way home.
    pub fn is_leaving(&self, block: BlockId) -> bool {
        self.find(block, |state| state == State::Filling).is_some()
    }

    /// The home that the block is being written to, or has been.
    pub fn of(&self, block: BlockId) -> Option<usize> {
        self.find(block, |state| state != State::Absent)
    }

    /// The home that the block can be read from.
    pub fn readable(&self, block: BlockId) -> Option<usize> {
        self.find(block, |state| state == State::Ready)
    }

    /// The block is readable at home.
    pub fn has(&self, block: BlockId) -> bool {
        self.readable(block).is_some()
    }

    /// Waits until the block is at home.
    pub fn wait(&self, block: BlockId) -> Result<(), MoveError> {
        match self.of(block) {
            Some(n) => self.mover.wait(home_slot(block, n)).map(drop),
            None => Ok(()),
        }
    }

    /// Asks for a block that is at home.
    pub fn fetch(&self, block: BlockId, class: Class, due: u64, target: Extent) {
        let n = self.readable(block).expect("a block that left is at home");
        let table = self.mover.table();
        let stored = table
            .pin(home_slot(block, n))
            .expect("a block leaves when it is at home");
        let request = Request {
            block,
            slot: slot_of(block),
            spec: Arc::new(stored_spec(&stored)),
            class,
            due,
            is_checked: true,
            pinned: Some(stored),
        };
        let asked = self.mover.want(self.list[n].read, request, target);
        assert!(asked.is_ok(), "only its sequence fills a block");
    }

    /// Nobody reads the block any more. A write under way ends first.
    pub fn free(&self, block: BlockId) {
        for (n, home) in self.list.iter().enumerate() {
            let slot = home_slot(block, n);
            if matches!(self.mover.table().state(slot), State::Filling | State::Poisoned) {
                // What it ends with does not matter, nor what it ended with.
                let _ = self.mover.wait(slot);
            }
            if self.is_lost(n) {
                drop(self.mover.table().evict(slot));
            } else if self.mover.table().state(slot) == State::Ready {
                let freed = self.mover.free(home.write, slot);
                assert!(freed, "nobody reads {block} any more");
            }
        }
    }

    pub fn names(&self) -> String {
        let names: Vec<&str> = self.list.iter().map(|home| home.name.as_str()).collect();
        names.join(", ")
    }
}
