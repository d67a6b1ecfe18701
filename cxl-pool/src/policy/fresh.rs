//! A use that brings a block in is told twice, as entered and as used: it counts once.

use crate::units::BlockId;
use std::collections::HashSet;

/// Blocks whose use has been counted when they entered.
#[derive(Debug, Default)]
pub(super) struct Fresh(HashSet<BlockId>);

impl Fresh {
    pub(super) fn entered(&mut self, block: BlockId) {
        self.0.insert(block);
    }

    /// Whether this use is one of its own.
    pub(super) fn used(&mut self, block: BlockId) -> bool {
        !self.0.remove(&block)
    }

    pub(super) fn left(&mut self, block: BlockId) {
        self.0.remove(&block);
    }
}
