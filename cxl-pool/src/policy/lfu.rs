//! Least frequently used, of uses since the block came; the longest unused of equals.

use super::Policy;
use crate::units::BlockId;
use std::collections::{BTreeMap, HashMap};

/// See the module.
#[derive(Debug, Default)]
pub struct Lfu {
    /// Blocks by uses and the time of the last one.
    order: BTreeMap<(u64, u64), BlockId>,
    places: HashMap<BlockId, (u64, u64)>,
    now: u64,
}

impl Lfu {
    fn count(&mut self, block: BlockId) {
        self.now += 1;
        let before = self.places.get(&block).copied();
        let uses = before.map_or(0, |place| {
            self.order.remove(&place);
            place.0
        });
        let place = (uses + 1, self.now);
        self.places.insert(block, place);
        self.order.insert(place, block);
    }
}

impl Policy for Lfu {
    fn name(&self) -> &'static str {
        "lfu"
    }

    fn entered(&mut self, block: BlockId) {
        self.count(block);
    }

    fn used(&mut self, block: BlockId) {
        self.count(block);
    }

    fn left(&mut self, block: BlockId) {
        if let Some(place) = self.places.remove(&block) {
            self.order.remove(&place);
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
    fn the_least_used_leaves_and_comes_back_without_its_past() {
        let [a, b, c] = [1, 2, 3].map(BlockId::new);
        let mut lfu = Lfu::default();
        for block in [a, b, c, a, a, b] {
            if block == c || lfu.places.contains_key(&block) {
                lfu.used(block);
            } else {
                lfu.entered(block);
            }
        }
        assert_eq!(lfu.victim(&|_| true), Some(c));
        assert_eq!(lfu.victim(&|block| block != c), Some(b));
        lfu.left(a);
        lfu.entered(a);
        assert_eq!(lfu.victim(&|block| block != c), Some(a));
    }
}
