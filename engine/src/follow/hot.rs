//! Which blocks of a file its readers use, from what each window of time has shown.
//!
//! A fault happens when a page is not mapped: at the first use, and at the first use after the
//! kernel took the page. So silence means two things. Of a block that is mapped it says nothing,
//! and the block's history stands still; of a block that was taken it says that nobody came back.
//! Where loads are sampled, silence always counts.

use std::cmp::Reverse;
use std::ops::Range;

/// Windows that are remembered of a block: it is cold when none of them showed a use.
const WINDOWS: u32 = 16;
const HISTORY: u32 = (1 << WINDOWS) - 1;

/// Blocks of one neighbourhood: where half of them are hot, so are the others.
const NEIGHBOURS: usize = 16;

/// What uses are seen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    /// Faults, or pages that came to be mapped: one use is all that can be seen of a block that
    /// stays mapped, so one window makes it hot.
    Faults,
    /// Sampled loads as well: two windows make a block hot.
    Loads,
}

impl Uses {
    /// Windows of the last `WINDOWS` that make a block hot.
    const fn enough(self) -> u32 {
        match self {
            Self::Faults => 1,
            Self::Loads => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// A bit per window that said something, the newest lowest; set if the block was used.
    history: u32,
    /// Window of the last use; zero before the first.
    used_in: u32,
    /// No page of it was taken since the last use, as far as we know.
    is_mapped: bool,
    is_hot: bool,
}

/// The blocks of a file.
#[derive(Debug)]
pub(crate) struct HotBlocks {
    blocks: Vec<Block>,
    uses: Uses,
    /// Number of the window, from 1 on.
    window: u32,
    /// Any block was used in this window: a reader that rests tells nothing.
    is_active: bool,
}

impl HotBlocks {
    pub(crate) fn new(count: usize, uses: Uses) -> Self {
        Self {
            blocks: vec![Block::default(); count],
            uses,
            window: 1,
            is_active: false,
        }
    }

    pub(crate) fn uses(&self) -> Uses {
        self.uses
    }

    /// A use of `block` was seen.
    pub(crate) fn touch(&mut self, block: usize) {
        let (window, enough) = (self.window, self.uses.enough());
        let block = &mut self.blocks[block];
        if block.used_in != window {
            block.history = (block.history << 1 | 1) & HISTORY;
            block.used_in = window;
        }
        block.is_mapped = true;
        block.is_hot |= block.history.count_ones() >= enough;
        self.is_active = true;
    }

    /// The kernel took most of `block`, so the next use of it will show.
    pub(crate) fn take(&mut self, block: usize) {
        self.blocks[block].is_mapped = false;
    }

    /// Whether `block` was used within the windows that are remembered.
    pub(crate) fn is_known(&self, block: usize) -> bool {
        self.blocks[block].history != 0
    }

    pub(crate) fn hot_count(&self) -> usize {
        self.blocks.iter().filter(|block| block.is_hot).count()
    }

    /// Ends a window and begins the next.
    pub(crate) fn close_window(&mut self) {
        if self.is_active {
            for block in &mut self.blocks {
                let says_nothing = self.uses == Uses::Faults && block.is_mapped;
                if block.history != 0 && block.used_in != self.window && !says_nothing {
                    block.history = block.history << 1 & HISTORY;
                    block.is_hot &= block.history != 0;
                }
            }
        }
        self.window = self.window.wrapping_add(1).max(1);
        self.is_active = false;
    }

    /// Chooses `most` blocks to have in memory: the hot ones, and if there are more, those used in
    /// most windows, then those used last. What was chosen before is left for what is clearly
    /// hotter only. Room that is left goes to neighbours of the hot.
    pub(crate) fn choose(&self, most: usize, chosen: &mut [bool]) {
        let is_hot = |index: &usize| self.blocks[*index].is_hot;
        let mut best: Vec<usize> = (0..self.blocks.len()).filter(is_hot).collect();
        if best.len() > most {
            best.sort_by_key(|&index| {
                let block = &self.blocks[index];
                let windows = block.history.count_ones() + u32::from(chosen[index]);
                Reverse((windows, chosen[index], block.used_in))
            });
            best.truncate(most);
        }
        let left = most - best.len();
        chosen.fill(false);
        for index in best {
            chosen[index] = true;
        }
        fill_neighbourhoods(left, chosen);
    }
}

/// Chooses the rest of neighbourhoods that are half chosen, `left` blocks at most.
fn fill_neighbourhoods(mut left: usize, chosen: &mut [bool]) {
    for blocks in chosen.chunks_mut(NEIGHBOURS) {
        let there = blocks.iter().filter(|is_chosen| **is_chosen).count();
        let missing = blocks.len() - there;
        if there >= missing && missing <= left {
            blocks.fill(true);
            left -= missing;
        }
    }
}

/// The chosen blocks as ranges, neighbours together.
pub(crate) fn ranges(chosen: &[bool]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (index, _) in chosen.iter().enumerate().filter(|(_, chosen)| **chosen) {
        match ranges.last_mut() {
            Some(last) if last.end == index => last.end += 1,
            _ => ranges.push(index..index + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
