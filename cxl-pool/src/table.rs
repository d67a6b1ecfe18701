//! The block table: block id to an entry of eight slots, one per tier that holds the block.

use crate::units::BlockId;
use larder_sys::lease::SlotTable;
use std::sync::Arc;

/// Tiers that may hold a block at once.
pub const SLOTS_PER_BLOCK: usize = 8;

/// A table for `blocks` blocks, none of which is anywhere but at its origin.
pub fn block_table(blocks: usize) -> Arc<SlotTable> {
    SlotTable::new(blocks * SLOTS_PER_BLOCK)
}

/// Copy tiers that may hold a block at once, as its homes.
pub const HOMES_PER_BLOCK: usize = 6;

/// The slot of the fast tier.
pub const fn slot_of(block: BlockId) -> usize {
    block.index() * SLOTS_PER_BLOCK
}

/// The slot of the staging memory, where a block rests between two moves.
pub const fn staging_slot(block: BlockId) -> usize {
    slot_of(block) + 1
}

/// The slot of home `n` of the block: a lower tier that keeps it while the fast tier need not.
pub const fn home_slot(block: BlockId, n: usize) -> usize {
    assert!(n < HOMES_PER_BLOCK, "a block has six homes");
    slot_of(block) + 2 + n
}

/// The block that a slot belongs to.
pub const fn block_of(slot: usize) -> BlockId {
    BlockId::new((slot / SLOTS_PER_BLOCK) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_of_a_block_are_its_own() {
        let (one, next) = (BlockId::new(7), BlockId::new(8));
        let slots = [
            slot_of(one),
            staging_slot(one),
            home_slot(one, 0),
            home_slot(one, HOMES_PER_BLOCK - 1),
        ];
        assert_eq!(slots, [56, 57, 58, 63]);
        assert_eq!(slot_of(next), 64);
        assert!(slots.iter().all(|&slot| block_of(slot) == one));
    }
}
