//! Homes: lower tiers that keep blocks the fast tier has no room for.
//!
//! A home on a memory node may come late, be silent for a while, be lost with all it had, and come
//! back empty; between two steps [`Homes::look_after`] takes note of it. One that came or came back
//! is given little at first.

mod in_place;

use larder_pool::block::stored_spec;
use larder_pool::mover::{Mover, Request, Store};
use larder_pool::remote::{Lent, Standing};
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::slot::State;
use larder_pool::sys::space::{Extent, Space};
use larder_pool::table::{SLOTS_PER_BLOCK, home_slot, slot_of};
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::{BlockId, PathId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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
    /// Weights that go there are read there.
    pub is_placed: bool,
}

impl Home {
    /// A tier that blocks are written to over `write` and read from over `read`.
    pub fn new(name: &str, space: Arc<Space>, (write, read): (PathId, PathId)) -> Self {
        Self {
            name: name.to_owned(),
            space,
            write,
            read,
            lent: None,
            is_origin: false,
            is_forced: false,
            is_placed: false,
        }
    }

    /// Bytes that it can hold now.
    pub fn bytes(&self) -> u64 {
        match &self.lent {
            Some(lent) => lent.capacity(),
            None => self.space.len(),
        }
    }

    /// Bytes of it that hold nothing.
    pub fn room(&self) -> u64 {
        self.bytes().saturating_sub(self.space.used_bytes())
    }

    /// What it is to be given, from 0 to 1.
    fn share(&self) -> f64 {
        self.lent.as_ref().map_or(1.0, |lent| lent.health().share())
    }
}

/// The homes of a session, the fastest first, each with a slot of its own per block.
#[derive(Clone)]
pub struct Homes {
    pub list: Vec<Home>,
    pub mover: Arc<Mover>,
    /// Homes that are gone, with all that was there.
    lost: Arc<[AtomicBool]>,
    /// What each home may still be given of its share, in 1024ths of a block.
    credits: Arc<[AtomicU64]>,
}

/// A whole block in the units of the credits.
const WHOLE: u64 = 1024;

impl Homes {
    pub fn new(list: Vec<Home>, mover: Arc<Mover>) -> Self {
        let is_there = |home: &Home| home.lent.as_ref().is_none_or(|lent| lent.stands());
        let lost = list.iter().map(|home| AtomicBool::new(!is_there(home)));
        Self {
            lost: lost.collect(),
            credits: list.iter().map(|_| AtomicU64::new(0)).collect(),
            list,
            mover,
        }
    }

    /// Home `n` is gone: nothing is asked of it any more.
    pub fn lose(&self, n: usize) {
        self.lost[n].store(true, Ordering::Release);
    }

    /// Home `n` is gone.
    pub fn is_lost(&self, n: usize) -> bool {
        self.lost[n].load(Ordering::Acquire)
    }

    /// Home `n` answers: it is there, and what it has comes when it is asked for.
    pub fn answers(&self, n: usize) -> bool {
        !self.is_lost(n) && self.list[n].share() > 0.0
    }

    /// Takes note of homes that went and came, between two steps. One that came back is used again
    /// when nothing is left of what it had.
    pub fn look_after(&self) {
        for (n, home) in self.list.iter().enumerate() {
            let Some(lent) = &home.lent else { continue };
            if !lent.stands() {
                self.lose(n);
            }
            if self.is_lost(n) && lent.health().standing() == Standing::Alive {
                self.forget(n);
                // Whoever lost it may have been wrong: then it is used again when it is empty.
                let is_empty = lent.stands() && home.space.used_bytes() == 0;
                if is_empty || lent.renew() {
                    self.mover.reopen(home.write);
                    self.lost[n].store(false, Ordering::Release);
                }
            }
        }
    }

    /// Lets go of everything that home `n` had, as far as nobody is at it.
    fn forget(&self, n: usize) {
        let table = self.mover.table();
        for index in 0..table.len() / SLOTS_PER_BLOCK {
            let slot = home_slot(BlockId::new(index as u32), n);
            if table.state(slot) == State::Poisoned {
                // Nobody waits for a store to a home that is lost.
                let _ = self.mover.wait(slot);
            }
            self.let_go(n, slot);
        }
    }

    /// Evicts a slot of home `n`, and tells the tier if that still has what was there; `false` if
    /// somebody is at it.
    fn let_go(&self, n: usize, slot: usize) -> bool {
        let home = &self.list[n];
        if home.lent.as_ref().is_none_or(|lent| lent.stands()) {
            self.mover.free(home.write, slot)
        } else {
            self.mover.table().evict(slot).is_some()
        }
    }

    /// What home `n` has of the block is damaged; `false` if somebody is at it still.
    pub fn forget_block(&self, n: usize, block: BlockId) -> bool {
        let write = self.list[n].write;
        let free = || self.mover.free(write, home_slot(block, n)).then_some(());
        given_back(&self.mover, free).is_some()
    }

    /// A home that is growing into its share takes this block.
    fn has_credit(&self, n: usize) -> bool {
        let share = (self.list[n].share() * WHOLE as f64) as u64;
        let before = self.credits[n].fetch_add(share, Ordering::Relaxed);
        if before + share < WHOLE {
            return false;
        }
        self.credits[n].fetch_sub(WHOLE, Ordering::Relaxed);
        true
    }

    /// The first home in which the slot of the block is in a state that `is` accepts.
    fn find(&self, block: BlockId, is: impl Fn(State) -> bool) -> Option<usize> {
        let table = self.mover.table();
        let state = |n: usize| table.state(home_slot(block, n));
        (0..self.list.len()).find(|&n| !self.is_lost(n) && is(state(n)))
    }

    /// Starts to write a ready block to the first home that takes it; `false` if none does.
    pub fn store(&self, block: BlockId, from: &ReadLease, bytes: u64) -> bool {
        let mut all = 0..self.list.len();
        // Its share of a home is no reason to have none.
        all.any(|n| self.has_credit(n) && self.store_at(n, block, from, bytes))
            || (0..self.list.len()).any(|n| self.store_at(n, block, from, bytes))
    }

    /// Starts to write a ready block to home `n`; `false` if it takes no more.
    pub fn store_at(&self, n: usize, block: BlockId, from: &ReadLease, bytes: u64) -> bool {
        let home = &self.list[n];
        if !self.answers(n) || self.mover.is_closed(home.write) {
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

    /// A home that the block is on its way to, which pins it; also one that is lost meanwhile.
    fn leaving_for(&self, block: BlockId) -> Option<usize> {
        let table = self.mover.table();
        let is_on_way = |&n: &usize| table.state(home_slot(block, n)) == State::Filling;
        (0..self.list.len()).find(is_on_way)
    }

    /// The block is on its way home.
    pub fn is_leaving(&self, block: BlockId) -> bool {
        self.leaving_for(block).is_some()
    }

    /// Waits until the block is not on its way, however that ends.
    pub fn wait_left(&self, block: BlockId) {
        while let Some(n) = self.leaving_for(block) {
            let _ = self.mover.wait(home_slot(block, n));
        }
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

    /// Nobody reads the block any more. A write under way ends first, and what a read that has
    /// failed still holds comes back.
    pub fn free(&self, block: BlockId) {
        for n in 0..self.list.len() {
            let slot = home_slot(block, n);
            if matches!(
                self.mover.table().state(slot),
                State::Filling | State::Poisoned
            ) {
                // What it ends with does not matter, nor what it ended with.
                let _ = self.mover.wait(slot);
            }
            if self.mover.table().state(slot) == State::Ready {
                let is_free = given_back(&self.mover, || self.let_go(n, slot).then_some(()));
                assert!(is_free.is_some(), "nobody reads {block} any more");
            }
        }
    }

    pub fn names(&self) -> String {
        let names: Vec<&str> = self.list.iter().map(|home| home.name.as_str()).collect();
        names.join(", ")
    }
}

/// Times to look for what a failed move holds, and the rest between two looks.
const LOOKS: usize = 100_000;
const LOOK: Duration = Duration::from_micros(100);

/// What a move that failed holds: its last operation may still be on its way home.
pub fn given_back<T>(mover: &Mover, again: impl Fn() -> Option<T>) -> Option<T> {
    for _ in 0..LOOKS {
        let found = again();
        if found.is_some() {
            return found;
        }
        mover.rest(LOOK);
    }
    None
}
