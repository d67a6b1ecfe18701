//! Memory that nothing stands in goes back to the kernel; the space keeps its addresses.

use super::{Extent, Memory, Space};
use crate::mapping::Mapping;
use std::sync::Arc;

impl Space {
    /// The memory behind the space, if its pages may go back to the kernel.
    fn that_shrinks(&self) -> Option<&Mapping> {
        match &self.memory {
            Memory::Mapped(mapping) if mapping.may_shrink() => Some(mapping),
            _ => None,
        }
    }

    /// Gives back the pages behind everything from `from` on that is free now, and says how many
    /// bytes that is; zero for memory that does not shrink. What is allocated there later starts
    /// as zeroes.
    pub fn give_back(self: &Arc<Self>, from: u64) -> u64 {
        let Some(mapping) = self.that_shrinks() else {
            return 0;
        };
        let holes = self.take_holes(from);
        let given = holes.iter().map(|hole| {
            // SAFETY: the hole is an extent of this space, so it is inside the mapping; it is ours
            // until the end of this function, nobody else has a right to its bytes, and what
            // stands in an extent that was free is nobody's.
            let is_given = unsafe { mapping.give_back(hole.start, hole.len) };
            if is_given { hole.len } else { 0 }
        });
        given.sum()
    }

    /// Takes all that is free from `from` on. It does not count as use: nothing will stand there.
    fn take_holes(self: &Arc<Self>, from: u64) -> Vec<Extent> {
        let mut free = self.free.lock();
        let mut holes = Vec::new();
        let all = std::mem::take(&mut free.ranges);
        for (start, len) in all {
            let cut = from.clamp(start, start + len);
            if cut > start {
                free.ranges.insert(start, cut - start);
            }
            let len = start + len - cut;
            if len > 0 {
                free.used += len;
                holes.push(Extent {
                    space: Arc::clone(self),
                    start: cut,
                    len,
                });
            }
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Scratch;
    use crate::space::GRANULE;

    const PAGES: u64 = 2048;

    /// Pages of the space that are in memory now.
    ///
    /// Source: mincore(2); of private anonymous memory it tells what this mapping has.
    fn resident_pages(space: &Space) -> u64 {
        let mapping = space.mapping().expect("mapped");
        let mut pages = vec![0u8; (mapping.len() / GRANULE) as usize];
        let base = mapping.base().as_ptr();
        // SAFETY: the range is the whole mapping, and there is a byte for each of its pages.
        let code =
            unsafe { libc::mincore(base.cast(), mapping.len() as usize, pages.as_mut_ptr()) };
        assert_eq!(code, 0, "mincore of our own range");
        pages.iter().filter(|&&page| page & 1 != 0).count() as u64
    }

    fn filled(space: &Arc<Space>, start: u64, pages: u64) -> Scratch {
        let extent = space.alloc_at(start * GRANULE, pages * GRANULE);
        let mut scratch = Scratch::new(extent.expect("free"));
        scratch.bytes_mut().fill(0x5A);
        scratch
    }

    #[test]
    fn what_is_free_goes_back_and_what_is_held_stays_as_it_was() {
        if cfg!(miri) {
            println!("skipped: miri has no madvise");
            return;
        }
        let mapping = Mapping::that_shrinks(PAGES * GRANULE).expect("memory");
        let space = Space::mapped(mapping);
        drop(filled(&space, 0, PAGES));
        assert_eq!(resident_pages(&space), PAGES, "all of it was written");
        let (low, high) = (filled(&space, 0, 512), filled(&space, 1536, 100));
        let peak = space.peak_bytes();
        // From the 1024th page on, the 512 below the upper extent and the 412 above it.
        assert_eq!(space.give_back(1024 * GRANULE), 924 * GRANULE);
        assert_eq!(resident_pages(&space), PAGES - 924);
        for held in [&low, &high] {
            assert!(held.bytes().iter().all(|&byte| byte == 0x5A));
        }
        assert_eq!(
            (space.used_bytes(), space.peak_bytes()),
            (612 * GRANULE, peak)
        );
        let again = Scratch::new(space.alloc_at(1024 * GRANULE, GRANULE).expect("free"));
        assert!(again.bytes().iter().all(|&byte| byte == 0));
        drop((low, high, again));
        assert_eq!(space.largest_hole(), space.len());
    }

    #[test]
    fn memory_that_does_not_shrink_gives_nothing() {
        let space = Space::mapped(Mapping::new(8 * GRANULE).expect("memory"));
        assert_eq!(space.give_back(0), 0);
        assert_eq!(Space::counted(8 * GRANULE).give_back(0), 0);
        assert_eq!(space.largest_hole(), space.len());
    }
}
