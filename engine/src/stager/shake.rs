//! Evictions that no policy asks for; `session::shake` says what they are for.

use super::Stager;
use larder_pool::sys::slot::State;
use larder_pool::table::slot_of;
use larder_pool::transfer::MoveError;
use larder_pool::units::BlockId;

impl Stager {
    /// Evicts the blocks that `pick` chooses of those on the fast tier, between two steps, and says
    /// how many. They come again when their use is near.
    pub fn evict_some(&mut self, pick: &mut dyn FnMut() -> bool) -> Result<u64, MoveError> {
        let mut count = 0;
        for index in 0..self.blocks {
            let block = BlockId::new(index as u32);
            let is_here = self.supply.table().state(slot_of(block)) != State::Absent;
            if !is_here || self.in_use[index] || !pick() {
                continue;
            }
            self.settle(index);
            if self.supply.evict(block).is_some() {
                count += 1;
                if let Some(frame) = self.frame_of(index) {
                    self.frames[frame] = None;
                }
            }
        }
        if let Some(experts) = self.experts.as_mut() {
            count += experts.evict_some(pick);
        }
        // They may have been asked for already.
        self.next = self.now;
        self.top_up()?;
        Ok(count)
    }
}
