//! Blocks in a line that any of them may leave.

use crate::units::BlockId;
use std::collections::{BTreeMap, HashMap};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    line: BTreeMap<u64, BlockId>,
    places: HashMap<BlockId, u64>,
    next: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    pub(super) fn has(&self, block: BlockId) -> bool {
        self.places.contains_key(&block)
    }

    /// Goes to the end, from wherever it stood.
    pub(super) fn push(&mut self, block: BlockId) {
        self.remove(block);
        self.line.insert(self.next, block);
        self.places.insert(block, self.next);
        self.next += 1;
    }

    /// Whether it stood in the line.
    pub(super) fn remove(&mut self, block: BlockId) -> bool {
        let place = self.places.remove(&block);
        place.is_some_and(|place| self.line.remove(&place).is_some())
    }

    pub(super) fn pop(&mut self) -> Option<BlockId> {
        let (_, block) = self.line.pop_first()?;
        self.places.remove(&block);
        Some(block)
    }

    /// From the front.
    pub(super) fn iter(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.line.values().copied()
    }
}
