//! The expert cache: equal frames between the fixed blocks and the KV, and who leaves them.
//!
//! A layer says which experts its rows picked; those that are resident are leased at once, the
//! others are asked for together and leased as they arrive. Experts that the next layer will
//! probably pick are asked for behind them, and given up again if it picks others.
//!
//! Life of an expert: a frame (free, or of a victim that the policy names), wanted, leased once
//! per layer and pass, then it stays until it is a victim itself or the border takes its frame.
//!
//! Where the whole supply stands in memory that kernels read, there are no victims and no guesses:
//! those that find a free frame when they are first picked have it, all others are read in place.
//! Where only a home does, those that went there are read there, and leave their frames first.

mod in_place;
mod warm;

use crate::layout::ExpertArea;
use crate::stager::StagerCounters;
use crate::stager::routes::Routes;
use crate::supply::Supply;
use larder_pool::policy::Policy;
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::slot::State;
use larder_pool::sys::space::{Extent, Space};
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of guessed experts that may be on their way at once.
const GUESS_BYTES: u64 = 32 << 20;
/// Share of the frames that guesses may hold until their layer has picked: what is known to have
/// been of use is worth more than a guess.
const GUESS_SHARE: usize = 4;
/// Sleep while the last piece of a given-up move comes home.
const QUARANTINE: Duration = Duration::from_micros(50);

/// The next expert of the layer under way.
pub enum NextExpert {
    Leased(BlockId, ReadLease),
    /// Every frame is in use: finish an operation, say so with [`ExpertCache::done`], ask again.
    Busy,
    /// All have been leased.
    End,
}

/// See the module.
pub struct ExpertCache {
    supply: Supply,
    /// Id of the first expert.
    first: usize,
    area: ExpertArea,
    space: Arc<Space>,
    policy: Box<dyn Policy>,
    pub routes: Routes,
    /// Block in each frame below the border.
    frames: Vec<Option<BlockId>>,
    /// Frame of each expert.
    frame_of: Vec<Option<usize>>,
    /// Moved since its last use.
    moved: Vec<bool>,
    /// Picked by the layer under way or the one before, and not done with: must stay.
    needed: HashSet<BlockId>,
    /// Picked and not leased yet, in order.
    waiting: VecDeque<BlockId>,
    /// Guessed for the next layer and not asked for yet.
    guesses: VecDeque<BlockId>,
    /// Guessed, asked for, and its layer has not picked yet.
    guessed: HashSet<BlockId>,
    /// Given up; the mover may not know yet.
    cancelled: HashSet<BlockId>,
    /// Brought by a warm-up, and not used since.
    warm: HashSet<BlockId>,
    /// Of experts that could be read in place, one could not be brought: none is any more.
    is_cut_off: bool,
    due: u64,
}

impl ExpertCache {
    /// A cache of the blocks `ids`, all absent.
    pub fn new(
        ids: Range<usize>,
        area: ExpertArea,
        supply: Supply,
        space: Arc<Space>,
        policy: Box<dyn Policy>,
        routes: Routes,
    ) -> Self {
        Self {
            frame_of: vec![None; ids.len()],
            moved: vec![false; ids.len()],
            first: ids.start,
            area,
            supply,
            space,
            policy,
            routes,
            frames: Vec::new(),
            needed: HashSet::new(),
            waiting: VecDeque::new(),
            guesses: VecDeque::new(),
            guessed: HashSet::new(),
            cancelled: HashSet::new(),
            warm: HashSet::new(),
            is_cut_off: false,
            due: 0,
        }
    }

    /// Takes another plan of where experts are homed.
    pub fn set_supply(&mut self, supply: Supply) {
        self.supply = supply;
    }

    /// Sets the upper end of the frames, between two steps; experts behind it are dropped.
    pub fn set_border(&mut self, border: u64) {
        let count = self.area.frames_below(border).min(self.moved.len());
        for frame in count..self.frames.len() {
            if let Some(block) = self.frames[frame] {
                self.settle(block);
                self.evict(block);
            }
        }
        self.frames.resize(count, None);
    }

    /// Drops every expert.
    pub fn clear(&mut self) {
        let count = self.frames.len();
        self.set_border(0);
        self.frames.resize(count, None);
        self.leave_there();
    }

    /// Evicts the experts that `pick` chooses, between two steps, and says how many.
    pub fn evict_some(&mut self, pick: &mut dyn FnMut() -> bool) -> u64 {
        let mut count = 0;
        for frame in 0..self.frames.len() {
            let Some(block) = self.frames[frame].filter(|_| pick()) else {
                continue;
            };
            self.settle(block);
            if self.frames[frame] == Some(block) {
                self.evict(block);
                count += 1;
            }
        }
        count
    }

    /// Starts a layer, whose experts end before the block `end`: its rows picked `blocks`, each
    /// once, most important first.
    pub fn begin(&mut self, blocks: &[BlockId], end: BlockId) {
        self.guesses.clear();
        // Operations of the layer before may still be under way: its experts stay needed.
        self.needed.extend(blocks);
        // What was guessed for later layers is still likely.
        let over: Vec<BlockId> = self.guessed.extract_if(|guess| *guess < end).collect();
        for block in over {
            if !self.needed.contains(&block) && self.state(block) == State::Filling {
                self.supply.mover().cancel(slot_of(block));
                self.cancelled.insert(block);
            }
        }
        self.waiting = blocks.iter().copied().collect();
        self.top_up();
    }

    /// Experts that the next layers will probably pick, the nearest layer and the most likely ones
    /// first.
    pub fn guess(&mut self, blocks: impl IntoIterator<Item = BlockId>) {
        if !self.wants_guesses() {
            return;
        }
        self.guesses = blocks.into_iter().collect();
        self.top_up();
    }

    /// The expert has a frame, filled or on its way, or is read in place.
    pub fn is_at_hand(&self, block: BlockId) -> bool {
        let has_frame = self.frame_of[block.index() - self.first].is_some();
        (has_frame && !self.cancelled.contains(&block)) || self.supply.is_in_place(block)
    }

    /// Leases the next expert of the layer: one that is there, else the one asked for first.
    pub fn next(&mut self, counters: &mut StagerCounters) -> Result<NextExpert, MoveError> {
        if self.waiting.is_empty() {
            return Ok(NextExpert::End);
        }
        self.top_up();
        let ready = self
            .waiting
            .iter()
            .position(|&block| self.state(block) == State::Ready);
        let asked = || {
            self.waiting
                .iter()
                .position(|&block| self.is_at_hand(block))
        };
        let Some(index) = ready.or_else(asked) else {
            return Ok(NextExpert::Busy);
        };
        let block = self.waiting.remove(index).expect("position is inside");
        let start = Instant::now();
        let lease = match self.supply.wait(block, || self.place_again(block)) {
            Ok(lease) => lease,
            Err(error) => {
                self.vacate(block);
                self.lease_there(block).ok_or(error)?
            }
        };
        if ready.is_none() {
            counters.stall += start.elapsed();
        }
        if std::mem::take(&mut self.moved[block.index() - self.first]) {
            self.supply.arrived(block, &lease);
            counters.misses += 1;
        } else {
            counters.hits += 1;
            counters.warm_hits += u64::from(self.warm.remove(&block));
        }
        if lease.is_lent() {
            counters.in_place += self.supply.bytes(block);
        } else {
            self.policy.used(block);
        }
        Ok(NextExpert::Leased(block, lease))
    }

    /// The memory that an expert was asked into, once more.
    fn place_again(&self, block: BlockId) -> Option<Extent> {
        let frame = self.frame_of[block.index() - self.first]?;
        let start = self.area.frame_start(frame);
        self.space.alloc_at(start, self.area.frame_bytes)
    }

    /// A step ended early: nothing is needed.
    pub fn abandon(&mut self) {
        self.needed.clear();
        self.waiting.clear();
        self.guesses.clear();
    }

    /// The operations on an expert have completed: it may leave.
    pub fn done(&mut self, block: BlockId) {
        self.needed.remove(&block);
    }

    /// Asks for what is waiting, then for what is guessed, while there are frames.
    fn top_up(&mut self) {
        let missing: Vec<BlockId> = self
            .waiting
            .iter()
            .copied()
            .filter(|&block| !self.is_at_hand(block))
            .collect();
        for block in missing {
            if !self.ask(block, Class::Demand) {
                return;
            }
        }
        while let Some(&block) = self.guesses.front() {
            let on_way = self
                .guessed
                .iter()
                .filter(|&&block| self.state(block) == State::Filling);
            if on_way.count() as u64 * self.area.frame_bytes >= GUESS_BYTES
                || self.guessed.len() >= self.frames.len() / GUESS_SHARE
            {
                return;
            }
            if !self.is_at_hand(block) {
                if !self.ask(block, Class::Prefetch) {
                    return;
                }
                if self.frame_of[block.index() - self.first].is_some() {
                    self.guessed.insert(block);
                }
            }
            self.guesses.pop_front();
        }
    }

    fn state(&self, block: BlockId) -> State {
        self.supply.table().state(slot_of(block))
    }

    /// Asks for an expert; `false` if every frame is in use.
    fn ask(&mut self, block: BlockId, class: Class) -> bool {
        if self.cancelled.contains(&block) {
            self.settle(block);
            if self.is_at_hand(block) {
                return true;
            }
        }
        let is_demand = class == Class::Demand;
        let found = match self.free_frame() {
            found if found.is_some() && self.may_enter(block) => found,
            // One that cannot be read there fails on its way here, with its cause.
            _ if self.reads_there(block) => return true,
            _ => self.room(is_demand),
        };
        let Some((frame, extent)) = found else {
            return false;
        };
        self.due += 1;
        let index = block.index() - self.first;
        self.supply.fetch(block, class, self.due, extent);
        self.frames[frame] = Some(block);
        self.frame_of[index] = Some(frame);
        self.moved[index] = true;
        self.policy.entered(block);
        true
    }

    /// A frame and its memory: a free one, or a victim's. A demand waits for guesses to land or to
    /// be given up rather than go without.
    fn room(&mut self, is_demand: bool) -> Option<(usize, Extent)> {
        loop {
            if let Some(found) = self.free_frame() {
                return Some(found);
            }
            let may = |block: BlockId| {
                !self.needed.contains(&block)
                    && (is_demand || !self.guessed.contains(&block))
                    && self.state(block) == State::Ready
                    && self.supply.table().pins(slot_of(block)) == 0
            };
            if let Some(victim) = self.victim(&may) {
                self.evict(victim);
                continue;
            }
            if !is_demand {
                return None;
            }
            let idle = |block: BlockId| !self.needed.contains(&block);
            // On their way, or failed to come.
            let moving = |block| {
                let state = self.state(block);
                idle(block) && matches!(state, State::Filling | State::Poisoned)
            };
            let leaving = |block| idle(block) && self.supply.is_leaving(block);
            // The last operation of a store that failed is on its way.
            let held = |block| idle(block) && self.state(block) == State::Ready;
            if let Some(block) = self.policy.victim(&moving) {
                self.settle(block);
            } else if let Some(block) = self.policy.victim(&leaving) {
                self.supply.wait_home(block);
            } else if self.frames.iter().any(Option::is_none) || self.policy.victim(&held).is_some()
            {
                self.supply.mover().rest(QUARANTINE);
            } else {
                return None;
            }
        }
    }

    /// A frame without a block whose memory is free. The moves into some may have been given up.
    fn free_frame(&mut self) -> Option<(usize, Extent)> {
        let given_up: Vec<BlockId> = self
            .cancelled
            .iter()
            .copied()
            .filter(|&block| self.state(block) != State::Filling)
            .collect();
        for block in given_up {
            self.forget_cancelled(block);
        }
        let bytes = self.area.frame_bytes;
        let free = |frame: &usize| self.frames[*frame].is_none();
        (0..self.frames.len()).filter(free).find_map(|frame| {
            let extent = self.space.alloc_at(self.area.frame_start(frame), bytes)?;
            Some((frame, extent))
        })
    }

    /// The mover has heard of the cancel: the expert arrived all the same, or it is absent.
    fn forget_cancelled(&mut self, block: BlockId) {
        self.cancelled.remove(&block);
        match self.state(block) {
            State::Absent => self.vacate(block),
            State::Poisoned => self.settle(block),
            State::Filling | State::Ready | State::Draining => {}
        }
    }

    /// Waits until the expert is not on its way. Nobody needs it now, so a move that fails is as
    /// good as none.
    fn settle(&mut self, block: BlockId) {
        let slot = slot_of(block);
        if self.cancelled.contains(&block) {
            while self.state(block) == State::Filling {
                self.supply.mover().wait_filled(slot, QUARANTINE);
            }
            self.forget_cancelled(block);
        } else if matches!(self.state(block), State::Filling | State::Poisoned) {
            let outcome = self.supply.wait(block, || self.place_again(block));
            if outcome.is_err() {
                self.vacate(block);
            }
        }
    }

    fn evict(&mut self, block: BlockId) {
        if self.frame_of[block.index() - self.first].is_none() {
            return;
        }
        let extent = self.supply.evict(block);
        assert!(
            extent.is_some(),
            "nobody leases {block}, which leaves the cache"
        );
        self.vacate(block);
    }

    fn vacate(&mut self, block: BlockId) {
        let index = block.index() - self.first;
        if let Some(frame) = self.frame_of[index].take() {
            self.frames[frame] = None;
        }
        self.moved[index] = false;
        self.guessed.remove(&block);
        self.warm.remove(&block);
        self.policy.left(block);
    }
}
