//! The block table: block id to an entry of four slots, one per tier that holds the block.

use crate::units::BlockId;
use larder_sys::lease::SlotTable;
use std::sync::Arc;

/// Tiers that may hold a block at once.
pub const SLOTS_PER_BLOCK: usize = 4;

/// A table for `blocks` blocks, none of which is anywhere but at its origin.
pub fn block_table(blocks: usize) -> Arc<SlotTable> {
    SlotTable::new(blocks * SLOTS_PER_BLOCK)
}

/// The slot of the fast tier.
pub const fn slot_of(block: BlockId) -> usize {
    block.index() * SLOTS_PER_BLOCK
}
