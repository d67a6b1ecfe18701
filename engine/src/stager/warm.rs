//! Warming up: blocks that will be used come before the first request.

use super::Stager;
use larder_pool::sys::slot::State;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::time::{Duration, Instant};

/// Blocks of a warm-up are asked for behind those of any step.
const DUE: u64 = 1 << 40;
/// Sleep while the last piece of a given-up move comes home.
const QUARANTINE: Duration = Duration::from_micros(50);

impl Stager {
    /// Asks for the blocks of every step that stay while `border` is the upper end of the fixed
    /// set, then for `experts`, those needed first before others, into the frames that are free;
    /// says what was asked for. No pass may be under way.
    pub fn begin_warm(
        &mut self,
        border: u64,
        experts: &[BlockId],
    ) -> Result<Vec<BlockId>, MoveError> {
        self.set_border(border)?;
        let mut asked = Vec::new();
        for index in 0..self.blocks {
            let block = BlockId::new(index as u32);
            let is_absent = self.supply.table().state(slot_of(block)) == State::Absent;
            if !is_absent || !self.layout.is_fixed(index, border) {
                continue;
            }
            let bytes = self.supply.bytes(block);
            let address = self.layout.addresses[index];
            if let Some(extent) = self.space.alloc_at(address, bytes) {
                let due = DUE + index as u64;
                self.supply.fetch(block, Class::Prefetch, due, extent);
                self.moved[index] = true;
                self.fixed_ahead += bytes;
                asked.push(block);
            }
        }
        if let Some(cache) = self.experts.as_mut() {
            asked.extend(cache.begin_warm(DUE, experts));
        }
        Ok(asked)
    }

    /// Sleeps until none of `asked` is on its way, or until `end`.
    pub fn wait_warm(&self, asked: &[BlockId], end: Option<Instant>) {
        for &block in asked {
            while self.supply.table().state(slot_of(block)) == State::Filling {
                let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    return;
                }
                let longest = Duration::from_millis(100);
                let time = left.map_or(longest, |left| left.min(longest));
                self.supply.mover().wait_filled(slot_of(block), time);
            }
        }
    }

    /// Gives up what has not come of `asked`, so that no demand stands behind it. What has come
    /// counts as used: it is there. Says which those are.
    pub fn end_warm(&mut self, asked: &[BlockId]) -> Vec<BlockId> {
        let (supply, blocks) = (self.supply.clone(), self.blocks);
        let state = |block: BlockId| supply.table().state(slot_of(block));
        // All at once, so that the path starts nothing more of it.
        for &block in asked {
            if state(block) == State::Filling {
                supply.mover().cancel(slot_of(block));
            }
        }
        let mut here = Vec::new();
        let (dense, experts): (Vec<BlockId>, Vec<BlockId>) =
            asked.iter().partition(|block| block.index() < blocks);
        for block in dense {
            while state(block) == State::Filling {
                supply.mover().wait_filled(slot_of(block), QUARANTINE);
            }
            if state(block) == State::Absent {
                self.forget(block.index());
                continue;
            }
            self.settle(block.index());
            if state(block) == State::Ready {
                self.warm.insert(block.index());
                here.push(block);
            }
        }
        if let Some(cache) = self.experts.as_mut() {
            here.extend(cache.end_warm(&experts));
        }
        here
    }
}
