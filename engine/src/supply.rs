//! Where weights come from: the origin, or a home that keeps what streams.
//!
//! Blocks that stream from a packed origin are homed on the lower tiers too, interleaved in step
//! order in proportion to the bandwidths, so that every link carries its share at once. A block
//! goes home the first time it has come from the origin; until then, and where no home takes it,
//! the origin is read again, and so it is where the queue of the home is the longer one. Blocks of
//! a model file have no other home: they are only dropped.
//!
//! The memory of a node on this host is read by the same processors as ours: where it has the whole
//! model, blocks can be read in place, and where it is a home, those that went there. Such a home
//! takes no link's time: it is given all that it has room for, from even distances, and the links
//! share the rest.

mod dealing;
mod queues;

use crate::home::{Homes, given_back};
use crate::layout::Layout;
use dealing::{Dealt, Ration, deal};
use larder_pool::block::{BlockSpec, Run};
use larder_pool::mover::{Mover, Request};
use larder_pool::remote::{Health, ObjectSource, Placed, Standing};
use larder_pool::sys::lease::{ReadLease, SlotTable};
use larder_pool::sys::slot::State;
use larder_pool::sys::space::Extent;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::{BlockId, GOLDEN, PathId};
use queues::{From, Queues};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A replica of the model.
#[derive(Clone, Debug)]
pub struct Replica {
    pub path: PathId,
    /// The node that holds it, and its content there; files of this host have none.
    pub node: Option<(Arc<Health>, ObjectSource)>,
}

impl Replica {
    /// What it is to be asked for, from 0 to 1.
    fn share(&self) -> f64 {
        let node = self.node.as_ref();
        node.map_or(1.0, |(health, _)| health.share())
    }

    /// It could be read from.
    fn is_there(&self) -> bool {
        let node = self.node.as_ref();
        node.is_none_or(|(health, source)| health.standing() != Standing::Gone && source.is_whole())
    }

    /// Times that it was opened.
    fn openings(&self) -> u64 {
        let node = self.node.as_ref();
        node.map_or(0, |(_, source)| source.openings())
    }
}

#[derive(Debug)]
struct Origin {
    replica: Replica,
    is_lost: AtomicBool,
    /// How often it had been opened when it was lost.
    lost_in: AtomicU64,
}

impl Origin {
    fn stands(&self) -> bool {
        !self.is_lost.load(Ordering::Acquire)
    }
}

/// Numbers of homes among the places that blocks are fetched from; those below are origins.
const HOMES: usize = 1 << 16;

/// See the module.
#[derive(Clone)]
pub struct Supply {
    mover: Arc<Mover>,
    origins: Arc<[Origin]>,
    /// Where each block was fetched from last.
    from: Arc<[AtomicUsize]>,
    homes: Homes,
    specs: Arc<[Arc<BlockSpec>]>,
    /// Home of each block, by number; empty if nothing has one.
    assigned: Arc<[Option<u8>]>,
    /// Bytes of each home that are not for weights.
    reserve: u64,
    /// All blocks where they can be read in place.
    placed: Option<Arc<Placed>>,
    queues: Arc<Queues>,
}

impl Supply {
    /// Weights that only ever come from the origin.
    pub fn new(origins: Vec<Replica>, homes: Homes, specs: Vec<Arc<BlockSpec>>) -> Self {
        let origins = origins.into_iter().map(|replica| Origin {
            is_lost: AtomicBool::new(!replica.is_there()),
            lost_in: AtomicU64::new(replica.openings()),
            replica,
        });
        Self {
            mover: Arc::clone(&homes.mover),
            origins: origins.collect(),
            from: specs.iter().map(|_| AtomicUsize::new(0)).collect(),
            homes,
            specs: specs.into(),
            assigned: Arc::default(),
            reserve: 0,
            placed: None,
            queues: Arc::new(Queues::new(0.0, &[])),
        }
    }

    /// All blocks stand in `placed` too, to be read in place.
    #[must_use]
    pub fn with_placed(mut self, placed: Option<Arc<Placed>>) -> Self {
        self.placed = placed;
        self
    }

    /// Every block can be read in place.
    pub const fn is_placed(&self) -> bool {
        self.placed.is_some()
    }

    /// Bytes outside the fast tier that were read in place so far, each block once.
    pub fn lent_bytes(&self) -> u64 {
        let whole = self.placed.as_ref().map_or(0, |placed| placed.read_bytes());
        whole + self.homes.lent_bytes()
    }

    /// The block stands where it can be read in place: see [`Self::place`].
    pub fn can_place(&self, block: BlockId) -> bool {
        self.is_placed() || self.homes.can_place(block)
    }

    /// Some of the blocks that have gone home can be read there.
    pub fn has_placed_home(&self) -> bool {
        self.homes.list.iter().any(|home| home.is_placed)
    }

    /// Makes a block, which must be absent, ready where it stands outside the fast tier.
    pub fn place(&self, block: BlockId) -> Result<(), MoveError> {
        let (spec, sums) = (&self.specs[block.index()], self.mover.sums());
        match &self.placed {
            Some(placed) => placed.publish(self.table(), block, spec, sums).map(drop),
            None => self.homes.place(block, sums),
        }
    }

    /// Leases `rows` where they stand in the slot of `block`, which must be absent; `None` if
    /// the model cannot be read in place.
    pub fn lease_rows(&self, block: BlockId, rows: &[Run]) -> Result<Option<ReadLease>, MoveError> {
        let Some(placed) = &self.placed else {
            return Ok(None);
        };
        let is_new = placed.publish_rows(self.table(), block, rows)?;
        assert!(is_new, "one batch at a time");
        Ok(self.table().pin(slot_of(block)))
    }

    /// The block is ready, and read in place.
    pub fn is_in_place(&self, block: BlockId) -> bool {
        let lease = self.table().pin(slot_of(block));
        lease.is_some_and(|lease| lease.is_lent())
    }

    /// Homes the blocks that `layout` streams, in the order of their use, on the lower tiers: on
    /// tier n in proportion to `rates[n]` beside the origin's `rate`, or as much as it has room for
    /// if it is read in place. `reserve` bytes of each home are left alone.
    #[must_use]
    pub fn with_homes(mut self, layout: &Layout, rate: f64, rates: &[f64], reserve: u64) -> Self {
        let blocks = layout.streamed().map(|block| Dealt {
            bytes: self.bytes(block),
            is_late: layout.stays_at_first(block),
        });
        let blocks: Vec<Dealt> = blocks.collect();
        let homes = self.homes.list.iter().zip(rates);
        let rations = homes.map(|(home, &rate)| {
            if home.is_placed {
                Ration::Room(home.placed_room(reserve))
            } else {
                Ration::Link(rate)
            }
        });
        let dealt = deal(&blocks, rate, &rations.collect::<Vec<_>>());
        let mut assigned = vec![None; self.specs.len()];
        for (block, home) in layout.streamed().zip(dealt) {
            assigned[block.index()] = home;
        }
        self.assigned = assigned.into();
        self.reserve = reserve;
        self.queues = Arc::new(Queues::new(rate, rates));
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

    /// The home that a block is given, where it will be read from when it has been there.
    pub fn home_given(&self, block: BlockId) -> Option<usize> {
        let home = self.assigned.get(block.index()).copied().flatten();
        home.map(usize::from)
    }

    /// Bytes of a block on the fast tier.
    pub fn bytes(&self, block: BlockId) -> u64 {
        self.specs[block.index()].extent_bytes()
    }

    /// Asks for a block, which must be absent, in `target`.
    pub fn fetch(&self, block: BlockId, class: Class, due: u64, target: Extent) {
        let home = self.homes.readable(block);
        let bytes = self.bytes(block);
        let is_best = |home: usize| {
            let answers = self.homes.answers(home);
            answers && self.queues.home_is_sooner(self.table(), home, bytes)
        };
        let home = home.filter(|&home| is_best(home) || !self.has_answering_origin());
        if let Some(home) = home {
            self.from[block.index()].store(HOMES + home, Ordering::Relaxed);
            self.queues
                .note(self.table(), block, From::Home(home), bytes);
            self.homes.fetch(block, class, due, target);
        } else {
            self.fetch_origin(block, class, due, target);
        }
    }

    fn has_answering_origin(&self) -> bool {
        let mut origins = self.origins.iter();
        origins.any(|origin| origin.stands() && origin.replica.share() > 0.0)
    }

    /// A replica of the model, dealt out by `number` in proportion to what each is to be asked for;
    /// if none answers, one that may do so again.
    pub fn origin(&self, number: usize) -> (usize, PathId) {
        let shares = self.origins.iter().map(|origin| {
            let share = origin.replica.share();
            if origin.stands() { share } else { 0.0 }
        });
        let shares: SmallVec<[f64; 8]> = shares.collect();
        let whole: f64 = shares.iter().sum();
        let mut left = (number as f64 * GOLDEN).fract() * whole;
        let picked = shares.iter().position(|&share| {
            left -= share;
            share > 0.0 && left < 0.0
        });
        let picked = picked.or_else(|| self.origins.iter().position(Origin::stands));
        let n = picked.unwrap_or(0);
        (n, self.origins[n].replica.path)
    }

    /// Takes note of nodes that went and came, between two steps.
    pub fn look_after(&self) {
        self.homes.look_after();
        for origin in self.origins.iter() {
            let replica = &origin.replica;
            let is_new = origin.lost_in.load(Ordering::Relaxed) != replica.openings();
            if !origin.stands() && is_new && replica.is_there() {
                origin.is_lost.store(false, Ordering::Release);
            }
        }
    }

    /// Origin `n` is gone; `false` if no other stands.
    pub fn lose_origin(&self, n: usize) -> bool {
        let origin = &self.origins[n];
        origin
            .lost_in
            .store(origin.replica.openings(), Ordering::Relaxed);
        origin.is_lost.store(true, Ordering::Release);
        self.origins.iter().any(Origin::stands)
    }

    /// Rests before a node that does not answer is asked again.
    pub fn rest(&self) {
        self.mover.rest(ASK_AGAIN);
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
        let bytes = self.bytes(block);
        self.queues.note(self.table(), block, From::Origin, bytes);
        let asked = self.mover.want(path, request, target);
        assert!(asked.is_ok(), "only the stager fills the slots of weights");
    }

    /// A block that streams has come: it goes home if it has one that it is not at.
    pub fn arrived(&self, block: BlockId, lease: &ReadLease) {
        let Some(home) = self.home_given(block) else {
            return;
        };
        let bytes = self.bytes(block);
        if self.homes.of(block).is_none() && self.homes.list[home].room() >= bytes + self.reserve {
            // A home that takes no more leaves the block to the origin.
            self.homes.store_at(home, block, lease, bytes);
        }
    }

    /// Takes a block off the fast tier once it has gone home; nobody else reads it. `None` if it
    /// was not there.
    pub fn evict(&self, block: BlockId) -> Option<Extent> {
        let slot = slot_of(block);
        self.wait_home(block);
        if self.table().state(slot) != State::Ready {
            return None;
        }
        // The last operations of a store that failed may still be on their way.
        given_back(&self.mover, || self.table().evict(slot))
    }

    /// The block is being written home, which pins it.
    pub fn is_leaving(&self, block: BlockId) -> bool {
        self.homes.is_leaving(block)
    }

    /// Waits until the block has gone home. How that ends does not matter here: the origin still
    /// has it.
    pub fn wait_home(&self, block: BlockId) {
        self.homes.wait_left(block);
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
                _ if error.is_unanswered() => {
                    // Another replica is asked, or the same again until it answers or is gone.
                    self.rest();
                    true
                }
                Some(home) if error.is_damage() => self.homes.forget_block(home, block),
                _ if !error.is_lost() && !error.is_damage() => false,
                Some(home) => {
                    self.homes.lose(home);
                    true
                }
                // A replica that gives wrong bytes is not asked again either.
                None => self.lose_origin(from),
            };
            let extent = stands.then(|| given_back(&self.mover, &again)).flatten();
            let Some(extent) = extent else {
                return Err(error);
            };
            self.fetch(block, Class::Demand, 0, extent);
        }
    }
}

/// Rest before a node that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(2);
