//! Least recently used.

use super::Policy;
use crate::units::BlockId;
use std::collections::{BTreeMap, HashMap};

/// See the module.
#[derive(Debug, Default)]
pub struct Lru {
    /// Blocks by the time of their last use.
    order: BTreeMap<u64, BlockId>,
    times: HashMap<BlockId, u64>,
    now: u64,
}

impl Lru {
    fn touch(&mut self, block: BlockId) {
        self.now += 1;
        if let Some(before) = self.times.insert(block, self.now) {
            self.order.remove(&before);
        }
        self.order.insert(self.now, block);
    }
}

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn entered(&mut self, block: BlockId) {
        self.touch(block);
    }

    fn used(&mut self, block: BlockId) {
        self.touch(block);
    }

    fn left(&mut self, block: BlockId) {
        if let Some(time) = self.times.remove(&block) {
            self.order.remove(&time);
        }
    }

    fn victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
        self.order.values().copied().find(|&block| may(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_block_that_may_leaves_first() {
        let (a, b, c) = (BlockId::new(1), BlockId::new(2), BlockId::new(3));
        let mut lru = Lru::default();
        for block in [a, b, c] {
            lru.entered(block);
        }
        lru.used(a);
        assert_eq!(lru.victim(&|_| true), Some(b));
        assert_eq!(lru.victim(&|block| block != b), Some(c));
        lru.left(b);
        lru.left(c);
        assert_eq!(lru.victim(&|_| true), Some(a));
        assert_eq!(lru.victim(&|_| false), None);
    }
}
