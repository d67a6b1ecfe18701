//! S3-FIFO: a small queue where most blocks pass through, a main one, and names of those that left.
//!
//! Naming a victim changes nothing here; blocks that it passes over move when it leaves.
//!
//! Source: Yang et al., FIFO queues are all you need for cache eviction, SOSP 2023.

use super::Policy;
use super::fresh::Fresh;
use super::queue::Queue;
use crate::units::BlockId;
use std::collections::HashMap;

/// Uses that are remembered of a block.
const USES_MAX: u8 = 3;
/// The small queue holds one in this many resident blocks.
const SMALL: usize = 10;

/// See the module.
#[derive(Debug, Default)]
pub struct S3Fifo {
    small: Queue,
    main: Queue,
    gone: Queue,
    uses: HashMap<BlockId, u8>,
    fresh: Fresh,
}

impl S3Fifo {
    fn uses(&self, block: BlockId) -> u8 {
        self.uses.get(&block).copied().unwrap_or(0)
    }

    fn is_small_full(&self) -> bool {
        let all = self.small.len() + self.main.len();
        self.small.len() >= (all / SMALL).max(1)
    }

    /// The first in the main queue of those that have been used least.
    fn main_victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
        let mut found: Option<(u8, BlockId)> = None;
        for block in self.main.iter().filter(|&block| may(block)) {
            let uses = self.uses(block);
            if uses == 0 {
                return Some(block);
            }
            if found.is_none_or(|(least, _)| uses < least) {
                found = Some((uses, block));
            }
        }
        found.map(|(_, block)| block)
    }

    fn small_victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
        let unused = |block: &BlockId| self.uses(*block) == 0 && may(*block);
        self.small.iter().find(unused)
    }

    /// Blocks that stand before `block` in the small queue have been used: they go to the main one.
    fn promote_before(&mut self, block: BlockId) {
        let before: Vec<BlockId> = self.small.iter().take_while(|&one| one != block).collect();
        for one in before {
            if self.uses(one) > 0 {
                self.small.remove(one);
                self.main.push(one);
                self.uses.insert(one, 0);
            }
        }
    }

    /// Those before `block` in the main queue go round once more, with a use less.
    fn rotate_before(&mut self, block: BlockId) {
        let before: Vec<BlockId> = self.main.iter().take_while(|&one| one != block).collect();
        for one in before {
            let uses = self.uses(one);
            self.uses.insert(one, uses.saturating_sub(1));
            self.main.push(one);
        }
    }
}

impl Policy for S3Fifo {
    fn name(&self) -> &'static str {
        "s3-fifo"
    }

    fn entered(&mut self, block: BlockId) {
        if self.gone.remove(block) {
            self.main.push(block);
        } else {
            self.small.push(block);
        }
        self.uses.insert(block, 0);
        self.fresh.entered(block);
        while self.gone.len() > self.small.len() + self.main.len() {
            self.gone.pop();
        }
    }

    fn used(&mut self, block: BlockId) {
        if self.fresh.used(block) {
            let uses = (self.uses(block) + 1).min(USES_MAX);
            self.uses.insert(block, uses);
        }
    }

    fn left(&mut self, block: BlockId) {
        self.fresh.left(block);
        if self.small.has(block) {
            self.promote_before(block);
            self.small.remove(block);
            self.gone.push(block);
        } else if self.main.has(block) {
            self.rotate_before(block);
            self.main.remove(block);
        }
        self.uses.remove(&block);
    }

    fn victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
        let small = self.is_small_full().then(|| self.small_victim(may));
        let found = small.flatten().or_else(|| self.main_victim(may));
        // Everything in the main queue must stay: whatever is left of the small one.
        found.or_else(|| self.small.iter().find(|&block| may(block)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_again_moves_to_the_main_queue() {
        let [a, b, c] = [1, 2, 3].map(BlockId::new);
        let mut policy = S3Fifo::default();
        for block in [a, b, c] {
            policy.entered(block);
            policy.used(block);
        }
        policy.used(a);
        assert_eq!(policy.victim(&|_| true), Some(b));
        policy.left(b);
        assert!(policy.main.has(a) && policy.gone.has(b));
        policy.entered(b);
        assert!(policy.main.has(b), "it left too early");
        assert_eq!(policy.victim(&|block| block == a), Some(a));
        assert_eq!(policy.victim(&|_| false), None);
    }
}
