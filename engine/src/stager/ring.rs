//! The ring: the frames in which blocks stream, and the memory behind them.

use super::{Place, Stager, UseAt};
use crate::home::given_back;
use larder_pool::sys::space::Extent;
use larder_pool::transfer::MoveError;
use larder_pool::units::BlockId;

impl Stager {
    pub(super) fn frame_of(&self, index: usize) -> Option<usize> {
        self.frames.iter().position(|&block| block == Some(index))
    }

    /// Takes the memory of a free frame, or of the frame whose block is used last if that is
    /// later than `place`. With `wait`, even of a block that is still on its way.
    pub(super) fn frame_for(
        &mut self,
        place: Place,
        wait: bool,
    ) -> Result<Option<Extent>, MoveError> {
        if self.frames.iter().all(Option::is_some) && !self.free_last_used(place, wait) {
            return Ok(None);
        }
        let Some((frame, extent)) = self.memory(place.index, wait, || self.free_frame())? else {
            return Ok(None);
        };
        self.frames[frame] = Some(place.index);
        Ok(Some(extent))
    }

    /// What `take` finds. With `wait`, memory that a failed move still holds is waited for.
    pub(super) fn memory<T>(
        &self,
        index: usize,
        wait: bool,
        take: impl Fn() -> Option<T>,
    ) -> Result<Option<T>, MoveError> {
        if !wait {
            return Ok(take());
        }
        let block = BlockId::new(index as u32);
        let found = given_back(self.supply.mover(), take);
        found.map(Some).ok_or(MoveError::Held { block })
    }

    /// A free frame and its memory.
    fn free_frame(&self) -> Option<(usize, Extent)> {
        let free = |frame: &usize| self.frames[*frame].is_none();
        (0..self.frames.len()).filter(free).find_map(|frame| {
            let start = self.layout.ring_start + frame as u64 * self.layout.frame_bytes;
            let extent = self.space.alloc_at(start, self.layout.frame_bytes)?;
            Some((frame, extent))
        })
    }

    /// Frees the frame whose block is used last, if that is later than `place`.
    fn free_last_used(&mut self, place: Place, wait: bool) -> bool {
        let last = (0..self.frames.len())
            .filter_map(|frame| {
                let block = self.frames[frame].filter(|&block| !self.in_use[block]);
                block.map(|block| (self.next_use(block), frame, block))
            })
            .max();
        let Some((used, frame, block)) = last else {
            return false;
        };
        if used <= UseAt::At(place) {
            return false;
        }
        if wait {
            self.settle(block);
        }
        if self.supply.evict(BlockId::new(block as u32)).is_some() {
            self.moved[block] = false;
            self.frames[frame] = None;
        }
        self.frames[frame].is_none()
    }
}
