//! The stager: has every block on the fast tier before its operation, or as soon as it is known.
//!
//! For blocks that every step reads the future is certain, so it only has to be early; experts
//! are known when their layer's router has spoken, and have a cache of their own.
//!
//! A pass reads blocks in step order, either the body (layers) or everything (layers and head).
//! Blocks of the fixed set are read once into their own address; the others stream through the
//! ring, as many ahead as there are frames, across the end of a pass into the next. What comes
//! next is known from the passes that remain, so nothing is read that no pass will use.
//!
//! Life of a streamed block: a free frame, wanted, waited for, leased, done with, evicted, and
//! the frame goes to the next block in line. If no frame is free, the one whose block is used
//! last is taken, so a change of plan never ends in a deadlock.
//!
//! What stands in memory that kernels read does not stream: what is not fixed is leased in place,
//! see [`in_place`].

mod future;
mod in_place;
mod ring;
mod routes;
mod experts;
mod shake;
mod warm;

pub use experts::{ExpertCache, NextExpert};
pub use routes::Routes;

use crate::layout::Layout;
use crate::manifest::Manifest;
use crate::supply::Supply;
use larder_pool::policy::Value;
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::slot::State;
use larder_pool::sys::space::{Extent, Space};
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fixed blocks that may be on their way at once, in bytes: enough to keep any link busy.
const FIXED_AHEAD_BYTES: u64 = 32 << 20;

/// Passes that are certain to come, the current one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// Over the layers only: prefill of all rows but the last ones.
    pub body: u64,
    /// Over everything; they follow the bodies.
    pub full: u64,
}

/// What the stager has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct StagerCounters {
    /// Leases of blocks that were where they were at their last use.
    pub hits: u64,
    /// Leases of blocks that were moved since.
    pub misses: u64,
    /// Time that the engine slept for blocks.
    pub stall: Duration,
    /// Blocks of a warm-up that were used before they left.
    pub warm_hits: u64,
    /// Bytes of leases that were read in place, outside the fast tier.
    pub in_place: u64,
}

/// A place in the passes to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    pass: u64,
    index: usize,
}

/// When a block is used next, sooner first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum UseAt {
    At(Place),
    Never,
}

/// See the module.
pub struct Stager {
    supply: Supply,
    /// Blocks that every step reads.
    blocks: usize,
    layout: Layout,
    space: Arc<Space>,
    /// Blocks of a body pass; those behind are the head's.
    body_blocks: usize,
    /// Block in each frame of the ring.
    frames: Vec<Option<usize>>,
    /// Upper end of the fixed set.
    border: u64,
    passes: Passes,
    /// The pass under way, counted from the start, and the passes that were bodies.
    now: Place,
    /// First place whose block has not been asked for.
    next: Place,
    moved: Vec<bool>,
    /// Leased, and its operations may not have completed.
    in_use: Vec<bool>,
    /// Extent bytes of fixed blocks that are on their way.
    fixed_ahead: u64,
    /// Brought by a warm-up, and not used since.
    warm: HashSet<usize>,
    counters: StagerCounters,
    /// Of blocks that could be read in place, one could not be brought: none is any more.
    is_cut_off: bool,
    experts: Option<ExpertCache>,
}

impl Stager {
    /// A stager over an empty arena.
    pub fn new(manifest: &Manifest, layout: Layout, supply: Supply, space: Arc<Space>) -> Self {
        let blocks = manifest.program.dense_blocks();
        let experts = layout.experts.map(|area| {
            let config = &manifest.config;
            let picked = config.experts.map_or(0, |experts| experts.picked);
            let routes = Routes::new(config.layers, picked);
            let ids = blocks..manifest.blocks.len();
            let (supply, space) = (supply.clone(), Arc::clone(&space));
            ExpertCache::new(ids, area, supply, space, Box::new(Value::default()), routes)
        });
        Self {
            experts,
            blocks,
            body_blocks: manifest.program.head.start as usize,
            border: layout.kv_border(0, 0),
            moved: vec![false; blocks],
            in_use: vec![false; blocks],
            frames: vec![None; layout.frames as usize],
            layout,
            supply,
            space,
            passes: Passes::default(),
            now: Place { pass: 0, index: 0 },
            next: Place { pass: 0, index: 0 },
            fixed_ahead: 0,
            warm: HashSet::new(),
            counters: StagerCounters::default(),
            is_cut_off: false,
        }
    }

    /// Takes another plan of where blocks are homed.
    pub fn set_supply(&mut self, supply: Supply) {
        if let Some(experts) = self.experts.as_mut() {
            experts.set_supply(supply.clone());
        }
        self.supply = supply;
    }

    pub fn supply(&self) -> &Supply {
        &self.supply
    }

    pub fn counters(&self) -> StagerCounters {
        self.counters
    }

    /// Blocks that operations may hold at once without one more being out of room.
    pub fn blocks_ahead(&self) -> usize {
        if self.frames.is_empty() || self.supply.is_placed() {
            usize::MAX
        } else {
            self.frames.len() - 1
        }
    }

    /// Says which passes come; the current pass has ended or none has begun.
    pub fn expect(&mut self, passes: Passes) -> Result<(), MoveError> {
        self.passes = passes;
        self.now = Place { pass: 0, index: 0 };
        self.next = self.now;
        self.top_up()
    }

    /// Ends a pass: the next lease is the first of the next pass.
    pub fn end_pass(&mut self) -> Result<(), MoveError> {
        self.now = Place {
            pass: self.now.pass + 1,
            index: 0,
        };
        self.next = self.next.max(self.now);
        self.top_up()
    }

    /// Drops every block, and expects no pass.
    pub fn clear(&mut self) -> Result<(), MoveError> {
        self.expect(Passes::default())?;
        if let Some(experts) = self.experts.as_mut() {
            experts.clear();
        }
        for index in 0..self.blocks {
            self.settle(index);
            drop(self.supply.evict(BlockId::new(index as u32)));
        }
        self.frames.fill(None);
        Ok(())
    }

    /// Sets the upper end of the fixed set, between two steps. What no longer fits is dropped.
    pub fn set_border(&mut self, border: u64) -> Result<(), MoveError> {
        if border < self.border {
            for index in 0..self.blocks {
                let was_fixed = self.layout.is_fixed(index, self.border);
                if was_fixed && !self.layout.is_fixed(index, border) {
                    self.drop_fixed(index);
                }
            }
            // A dropped block may have been asked for as one that stays.
            self.next = self.now;
        }
        self.border = border;
        if let Some(experts) = self.experts.as_mut() {
            experts.set_border(border);
        }
        self.top_up()
    }

    fn drop_fixed(&mut self, index: usize) {
        self.warm.remove(&index);
        if self.frame_of(index).is_none() {
            self.settle(index);
            drop(self.supply.evict(BlockId::new(index as u32)));
        }
    }

    /// Waits until a block that nobody needs now is not being filled, however that ends.
    fn settle(&mut self, index: usize) {
        let block = BlockId::new(index as u32);
        let state = self.supply.table().state(slot_of(block));
        if matches!(state, State::Filling | State::Poisoned) {
            let outcome = self.supply.wait(block, || self.place_again(index));
            if outcome.is_err() {
                self.forget(index);
            }
        }
        if std::mem::take(&mut self.moved[index]) && self.frame_of(index).is_none() {
            self.arrived_fixed(index);
        }
    }

    /// The move of a block has failed: who needs it asks again.
    fn forget(&mut self, index: usize) {
        let was_moved = std::mem::take(&mut self.moved[index]);
        if let Some(frame) = self.frame_of(index) {
            self.frames[frame] = None;
        } else if was_moved {
            self.arrived_fixed(index);
        }
    }

    /// The memory that a block was asked into, once more.
    fn place_again(&self, index: usize) -> Option<Extent> {
        let bytes = self.supply.bytes(BlockId::new(index as u32));
        match self.frame_of(index) {
            Some(frame) => {
                let start = self.layout.ring_start + frame as u64 * self.layout.frame_bytes;
                self.space.alloc_at(start, self.layout.frame_bytes)
            }
            None => self.space.alloc_at(self.layout.addresses[index], bytes),
        }
    }

    /// A step ended early, and all its operations with it: nothing is in use.
    pub fn abandon(&mut self) {
        self.in_use.fill(false);
        if let Some(experts) = self.experts.as_mut() {
            experts.abandon();
        }
    }

    fn arrived_fixed(&mut self, index: usize) {
        self.fixed_ahead -= self.supply.bytes(BlockId::new(index as u32));
    }

    /// Asks for the blocks in line while there is room for them.
    fn top_up(&mut self) -> Result<(), MoveError> {
        while let Some(len) = self.pass_len(self.next.pass) {
            if self.next.index == len {
                self.next = Place {
                    pass: self.next.pass + 1,
                    index: 0,
                };
                continue;
            }
            // Further ahead than one round, the blocks of this round are still in use.
            let rounds = self.next.pass - self.now.pass;
            if rounds > 1 || (rounds == 1 && self.next.index >= self.now.index) {
                return Ok(());
            }
            if !self.ask(self.next, false)? {
                return Ok(());
            }
            self.next.index += 1;
        }
        Ok(())
    }

    /// Asks for the block at `place` unless it is there; `false` if there is no room now. With
    /// `wait`, room is made whatever it takes.
    fn ask(&mut self, place: Place, wait: bool) -> Result<bool, MoveError> {
        let block = BlockId::new(place.index as u32);
        // Its frame is given away when the use under way ends.
        if self.in_use[place.index] {
            return Ok(false);
        }
        let is_fixed = self.is_brought(place.index);
        if is_fixed {
            self.make_way(block);
        }
        if self.supply.table().state(slot_of(block)) != State::Absent {
            return Ok(true);
        }
        let bytes = self.supply.bytes(block);
        let extent = if is_fixed {
            if !wait && self.fixed_ahead > 0 && self.fixed_ahead + bytes > FIXED_AHEAD_BYTES {
                return Ok(false);
            }
            let address = self.layout.addresses[place.index];
            self.memory(place.index, wait, || self.space.alloc_at(address, bytes))?
        } else if self.read_there(block, wait)? {
            return Ok(true);
        } else {
            self.frame_for(place, wait)?
        };
        let Some(extent) = extent else {
            return Ok(false);
        };
        let due = place.pass * self.blocks as u64 + place.index as u64;
        self.supply.fetch(block, Class::Prefetch, due, extent);
        self.moved[place.index] = true;
        self.fixed_ahead += if is_fixed { bytes } else { 0 };
        Ok(true)
    }

    /// The cache of experts, with the counters of its leases.
    ///
    /// # Panics
    /// In a dense model.
    pub fn experts(&mut self) -> (&mut ExpertCache, &mut StagerCounters) {
        let experts = self.experts.as_mut().expect("a model with experts");
        (experts, &mut self.counters)
    }

    /// Experts that the prefill asked for, and those that decoding did; `None` in a dense model.
    pub fn record(&self) -> Option<(&[BlockId], &[BlockId])> {
        self.experts.as_ref()?.routes.record()
    }

    /// A text begins: the record of its routing too.
    pub fn start_text(&mut self) {
        if let Some(experts) = self.experts.as_mut() {
            experts.routes.restart();
        }
    }

    /// The prefill has ended.
    pub fn start_decode(&mut self) {
        if let Some(experts) = self.experts.as_mut() {
            experts.routes.start_decode();
        }
    }

    /// Pins a block of the coming layer if it is there; it is not a use of the block.
    pub fn peek(&self, block: BlockId) -> Option<ReadLease> {
        self.supply.table().pin(slot_of(block))
    }

    /// The block is where it was at its last use and stays there: it can be leased without waiting,
    /// and nothing waits for it to be used.
    pub fn rests(&self, block: BlockId) -> bool {
        let is_fixed = || self.layout.is_fixed(block.index(), self.border);
        !self.moved[block.index()]
            && self.supply.table().state(slot_of(block)) == State::Ready
            && (is_fixed() || self.supply.is_in_place(block))
    }

    /// Leases the next block of the pass, which must be `block`, sleeping until it is there.
    pub fn lease(&mut self, block: BlockId) -> Result<ReadLease, MoveError> {
        assert_eq!(
            block.index(),
            self.now.index,
            "blocks are leased in step order"
        );
        let start = Instant::now();
        let was_ready = self.supply.table().state(slot_of(block)) == State::Ready;
        if self.next <= self.now || self.is_left_there(block) {
            let asked = self.ask(self.now, true)?;
            assert!(asked, "{block} has neither a frame nor its place");
            let behind = Place {
                index: self.now.index + 1,
                ..self.now
            };
            self.next = self.next.max(behind);
        }
        let outcome = self.supply.wait(block, || self.place_again(block.index()));
        let lease = match outcome {
            Ok(lease) => lease,
            Err(error) => {
                self.forget(block.index());
                self.lease_there(block).ok_or(error)?
            }
        };
        if !was_ready {
            self.counters.stall += start.elapsed();
        }
        self.note_in_place(block, &lease);
        if std::mem::take(&mut self.moved[block.index()]) {
            self.counters.misses += 1;
            if self.frame_of(block.index()).is_none() {
                self.arrived_fixed(block.index());
            } else {
                self.supply.arrived(block, &lease);
            }
        } else {
            self.counters.hits += 1;
            self.counters.warm_hits += u64::from(self.warm.remove(&block.index()));
        }
        self.in_use[block.index()] = true;
        self.now.index += 1;
        Ok(lease)
    }

    /// The operations on `block` have completed: a streamed block leaves its frame to the next.
    pub fn done(&mut self, block: BlockId) -> Result<(), MoveError> {
        if block.index() >= self.blocks {
            self.experts().0.done(block);
            return Ok(());
        }
        self.in_use[block.index()] = false;
        if let Some(frame) = self.frame_of(block.index()) {
            let extent = self.supply.evict(block);
            assert!(extent.is_some(), "nobody else leases a streamed block");
            self.frames[frame] = None;
        }
        self.top_up()
    }
}
