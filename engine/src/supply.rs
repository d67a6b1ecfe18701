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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A path from a replica of the model.
#[derive(Debug)]
struct OriginPath {
    path: PathId,
    is_lost: AtomicBool,
}

/// Numbers of homes among the places that blocks are fetched from; those below are origins.
const HOMES: usize = 1 << 16;

/// See the module.
#[derive(Clone)]
pub struct Supply {
    mover: Arc<Mover>,
    origins: Arc<[OriginPath]>,
    /// Where each block was fetched from last.
    from: Arc<[AtomicUsize]>,
    homes: Homes,
    specs: Arc<[Arc<BlockSpec>]>,
    /// Home of each block, by number; empty if nothing has one.
    assigned: Arc<[Option<u8>]>,
    /// Bytes of each home that are not for weights.
    reserve: u64,
}

impl Supply {
    /// Weights that only ever come from the origin.
    pub fn new(origins: &[PathId], homes: Homes, specs: Vec<Arc<BlockSpec>>) -> Self {
        let origins = origins.iter().map(|&path| OriginPath {
            path,
            is_lost: AtomicBool::new(false),
        });
        Self {
            mover: Arc::clone(&homes.mover),
            origins: origins.collect(),
            from: specs.iter().map(|_| AtomicUsize::new(0)).collect(),
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
        if let Some(home) = self.homes.readable(block) {
            self.from[block.index()].store(HOMES + home, Ordering::Relaxed);
            self.homes.fetch(block, class, due, target);
        } else {
            self.fetch_origin(block, class, due, target);
        }
    }

    /// A replica of the model that stands, dealt out by `number`; the first one if none does.
    pub fn origin(&self, number: usize) -> (usize, PathId) {
        let standing = |(_, origin): &(usize, &OriginPath)| !origin.is_lost.load(Ordering::Acquire);
        let standing: Vec<(usize, &OriginPath)> =
            self.origins.iter().enumerate().filter(standing).collect();
        let found = standing.get(number % standing.len().max(1));
        found.map_or((0, self.origins[0].path), |(n, origin)| (*n, origin.path))
    }

    /// Origin `n` is gone; `false` if no other stands.
    pub fn lose_origin(&self, n: usize) -> bool {
        self.origins[n].is_lost.store(true, Ordering::Release);
        let mut origins = self.origins.iter();
        origins.any(|origin| !origin.is_lost.load(Ordering::Acquire))
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
        let (n, path) = self.origin(block.index());
        self.from[block.index()].store(n, Ordering::Relaxed);
        let asked = self.mover.want(path, request, target);
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

    /// Pins a block that was asked for, sleeping until it is there. If what it came from is lost it
    /// is fetched from elsewhere, into the memory that `again` gives: the same as before.
    pub fn wait(
        &self,
        block: BlockId,
        again: impl Fn() -> Option<Extent>,
    ) -> Result<ReadLease, MoveError> {
        loop {
            let error = match self.mover.wait(slot_of(block)) {
                Ok(lease) => return Ok(lease),
                Err(error) => error,
            };
            let from = self.from[block.index()].load(Ordering::Relaxed);
            let stands = match from.checked_sub(HOMES) {
                _ if !error.is_lost() => false,
                Some(home) => {
                    self.homes.lose(home);
                    true
                }
                None => self.lose_origin(from),
            };
            let Some(extent) = stands.then(|| given_back(&self.mover, &again)).flatten() else {
                return Err(error);
            };
            self.fetch(block, Class::Demand, 0, extent);
        }
    }
}

/// Longest wait for the last operation of a failed move, and how often to look.
const GIVEN_BACK_NS: u64 = 10_000_000_000;
const LOOK: Duration = Duration::from_micros(100);

/// The memory of a move that failed: its last operation may still be on its way home.
pub fn given_back<T>(mover: &Mover, again: impl Fn() -> Option<T>) -> Option<T> {
    let start = mover.now();
    loop {
        let extent = again();
        if extent.is_some() || mover.now().since(start) > GIVEN_BACK_NS {
            return extent;
        }
        mover.rest(LOOK);
    }
}
