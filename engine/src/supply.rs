//! Where weights come from: the origin, or a home that keeps what streams.
//!
//! Blocks that stream from a packed origin are homed on the lower tiers too, interleaved in step
//! order in proportion to the bandwidths, so that every link carries its share at once. A block
//! goes home the first time it has come from the origin; until then, and where no home takes it,
//! the origin is read again. Blocks of a model file have no other home: they are only dropped.

use crate::home::Homes;
use larder_pool::block::BlockSpec;
use larder_pool::mover::{Mover, Request};
use larder_pool::sys::lease::{ReadLease, SlotTable};
use larder_pool::sys::space::Extent;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::{BlockId, PathId};
use std::sync::Arc;

/// See the module.
#[derive(Clone)]
pub struct Supply {
    mover: Arc<Mover>,
    origin: PathId,
    homes: Homes,
    specs: Arc<[Arc<BlockSpec>]>,
    /// Home of each block, by number; empty if nothing has one.
    assigned: Arc<[Option<u8>]>,
    /// Bytes of each home that are not for weights.
    reserve: u64,
}

impl Supply {
    /// Weights that only ever come from the origin.
    pub fn new(origin: PathId, homes: Homes, specs: Vec<Arc<BlockSpec>>) -> Self {
        Self {
            mover: Arc::clone(&homes.mover),
            origin,
            homes,
            specs: specs.into(),
            assigned: Arc::default(),
            reserve: 0,
        }
    }

    /// Homes the blocks `streamed`, in the order of their use, on the lower tiers: tier n in
    /// proportion to `rates[n]` beside the origin's `rate`. `reserve` bytes of each home are left
    /// alone.
    #[must_use]
    pub fn with_homes(
        mut self,
        streamed: impl Iterator<Item = BlockId>,
        rate: f64,
        rates: &[f64],
        reserve: u64,
    ) -> Self {
        let mut assigned = vec![None; self.specs.len()];
        // Each block goes where it would have come over the link first.
        let mut busy = vec![0.0; rates.len() + 1];
        for block in streamed {
            let bytes = self.bytes(block) as f64;
            let ends = rates.iter().chain([&rate]).zip(&busy);
            let ends = ends.map(|(rate, busy)| busy + bytes / rate);
            let first = ends.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
            let (tier, end) = first.expect("the origin is one of them");
            busy[tier] = end;
            assigned[block.index()] = (tier < rates.len()).then_some(tier as u8);
        }
        self.assigned = assigned.into();
        self.reserve = reserve;
        self
    }

    pub fn table(&self) -> &Arc<SlotTable> {
        self.mover.table()
    }

    pub fn mover(&self) -> &Arc<Mover> {
        &self.mover
    }

    /// Bytes of the blocks that are given to each of `count` homes.
    pub fn homed_bytes(&self, count: usize) -> Vec<u64> {
        let mut bytes = vec![0; count];
        for (spec, home) in self.specs.iter().zip(self.assigned.iter()) {
            if let Some(home) = home {
                bytes[usize::from(*home)] += spec.extent_bytes();
            }
        }
        bytes
    }

    /// Bytes of a block on the fast tier.
    pub fn bytes(&self, block: BlockId) -> u64 {
        self.specs[block.index()].extent_bytes()
    }

    /// Asks for a block, which must be absent, in `target`.
    pub fn fetch(&self, block: BlockId, class: Class, due: u64, target: Extent) {
        if self.homes.has(block) {
            self.homes.fetch(block, class, due, target);
        } else {
            self.fetch_origin(block, class, due, target);
        }
    }

    /// As [`Self::fetch`], from the origin.
    pub fn fetch_origin(&self, block: BlockId, class: Class, due: u64, target: Extent) {
        let request = Request {
            block,
            slot: slot_of(block),
            spec: Arc::clone(&self.specs[block.index()]),
            class,
            due,
            is_checked: true,
            pinned: None,
        };
        let asked = self.mover.want(self.origin, request, target);
        assert!(asked.is_ok(), "only the stager fills the slots of weights");
    }

    /// A block that streams has come: it goes home if it has one that it is not at.
    pub fn arrived(&self, block: BlockId, lease: &ReadLease) {
        let home = self.assigned.get(block.index()).copied().flatten();
        let Some(home) = home.map(usize::from) else {
            return;
        };
        let bytes = self.bytes(block);
        let space = &self.homes.list[home].space;
        let room = space.len() - space.used_bytes();
        if self.homes.of(block).is_none() && room >= bytes + self.reserve {
            // A home that takes no more leaves the block to the origin.
            self.homes.store_at(home, block, lease, bytes);
        }
    }

    /// Takes a block off the fast tier once it has gone home; nobody else reads it. `None` if it
    /// was not there.
    pub fn evict(&self, block: BlockId) -> Option<Extent> {
        let slot = slot_of(block);
        loop {
            let extent = self.table().evict(slot);
            if extent.is_some() || !self.homes.is_leaving(block) {
                return extent;
            }
            self.wait_home(block);
        }
    }

    /// The block is being written home, which pins it.
    pub fn is_leaving(&self, block: BlockId) -> bool {
        self.homes.is_leaving(block)
    }

    /// Waits until the block has gone home. How that ends does not matter here: the origin still
    /// has it.
    pub fn wait_home(&self, block: BlockId) {
        let _ = self.homes.wait(block);
    }

    /// Pins a block that was asked for, sleeping until it is there.
    pub fn wait(&self, block: BlockId) -> Result<ReadLease, MoveError> {
        self.mover.wait(slot_of(block))
    }
}
