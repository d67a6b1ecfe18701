//! Who brings the blocks of a probe: one reader per path, each on a thread of its own where several
//! run at once, so that a slow path keeps none of the others waiting.

use super::marks::{Brought, Mark};
use crate::home::Homes;
use crate::supply::Supply;
use larder_pool::sys::space::Space;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What readers read with.
pub(super) struct Reader<'a> {
    pub(super) space: &'a Arc<Space>,
    pub(super) supply: &'a Supply,
    pub(super) homes: &'a Homes,
    /// Bytes of the arena that each may have in use.
    pub(super) area: u64,
    /// When all of them began.
    pub(super) start: Instant,
}

impl Reader<'_> {
    /// Brings the blocks that `next` names by their number and the time, from their home or from
    /// the origin, until it names none or there is no room. They leave at once.
    pub(super) fn read(
        &self,
        is_home: bool,
        next: impl Fn(usize, Duration) -> Option<BlockId>,
    ) -> Result<Brought, MoveError> {
        let (mut marks, mut read, mut full_until) = (Vec::new(), 0, None);
        let (mut waiting, mut in_area, mut asked) = (VecDeque::new(), 0, 0);
        loop {
            let at = self.start.elapsed();
            let more = next(asked, at);
            if more.is_none() {
                full_until.get_or_insert(at);
            }
            // One that is read again may still be on its way.
            let free = more.filter(|block| !waiting.contains(block));
            let room = free.and_then(|block| {
                let bytes = self.supply.bytes(block);
                let fits = in_area + bytes <= self.area;
                let extent = fits.then(|| self.space.alloc_low(bytes)).flatten()?;
                Some((block, bytes, extent))
            });
            let Some((block, bytes, extent)) = room else {
                let Some(oldest) = waiting.pop_front() else {
                    break;
                };
                let bytes = self.take(oldest)?;
                (in_area, read) = (in_area - bytes, read + bytes);
                let at = self.start.elapsed();
                marks.push(Mark { at, bytes: read });
                continue;
            };
            let due = asked as u64;
            if is_home {
                self.homes.fetch(block, Class::Prefetch, due, extent);
            } else {
                self.supply
                    .fetch_origin(block, Class::Prefetch, due, extent);
            }
            waiting.push_back(block);
            (in_area, asked) = (in_area + bytes, asked + 1);
        }
        Ok(Brought {
            marks,
            full_until: full_until.unwrap_or_else(|| self.start.elapsed()),
        })
    }

    /// Waits for a block and lets it go.
    pub(super) fn take(&self, block: BlockId) -> Result<u64, MoveError> {
        let slot = slot_of(block);
        drop(self.supply.mover().wait(slot)?);
        drop(self.supply.table().evict(slot));
        Ok(self.supply.bytes(block))
    }
}
