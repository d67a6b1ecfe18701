//! Adaptive replacement: what was used once and what was used more, divided by what left too early.
//!
//! The victim is named before the policy hears which block comes, so the target moves one miss
//! later than in the paper.
//!
//! Source: Megiddo and Modha, ARC: a self-tuning, low overhead replacement cache, FAST 2003.

use super::Policy;
use super::fresh::Fresh;
use super::queue::Queue;
use crate::units::BlockId;

/// See the module.
#[derive(Debug, Default)]
pub struct Arc {
    /// Resident: used once lately, used more than once.
    once: Queue,
    more: Queue,
    /// Left from either.
    once_gone: Queue,
    more_gone: Queue,
    /// Blocks that `once` may hold.
    target: usize,
    fresh: Fresh,
}

impl Arc {
    fn room(&self) -> usize {
        self.once.len() + self.more.len()
    }

    fn trim(&mut self) {
        let room = self.room();
        while self.once_gone.len() > room {
            self.once_gone.pop();
        }
        while self.more_gone.len() > room {
            self.more_gone.pop();
        }
    }
}

impl Policy for Arc {
    fn name(&self) -> &'static str {
        "arc"
    }

    fn entered(&mut self, block: BlockId) {
        let (once, more) = (self.once_gone.len(), self.more_gone.len());
        if self.once_gone.remove(block) {
            let step = (more / once.max(1)).max(1);
            self.target = (self.target + step).min(self.room() + 1);
            self.more.push(block);
        } else if self.more_gone.remove(block) {
            let step = (once / more.max(1)).max(1);
            self.target = self.target.saturating_sub(step);
            self.more.push(block);
        } else {
            self.once.push(block);
        }
        self.fresh.entered(block);
        self.trim();
    }

    fn used(&mut self, block: BlockId) {
        if self.fresh.used(block) {
            self.once.remove(block);
            self.more.push(block);
        }
    }

    fn left(&mut self, block: BlockId) {
        self.fresh.left(block);
        if self.once.remove(block) {
            self.once_gone.push(block);
        } else if self.more.remove(block) {
            self.more_gone.push(block);
        }
    }

    fn victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
        let once = || self.once.iter().find(|&block| may(block));
        let more = || self.more.iter().find(|&block| may(block));
        if self.once.len() > self.target {
            once().or_else(more)
        } else {
            more().or_else(once)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_leaves_what_was_used_twice() {
        let [a, b, c] = [1, 2, 3].map(BlockId::new);
        let mut arc = Arc::default();
        for block in [a, b] {
            arc.entered(block);
            arc.used(block);
        }
        arc.used(a);
        assert_eq!(arc.victim(&|_| true), Some(b));
        arc.left(b);
        arc.entered(c);
        arc.used(c);
        assert_eq!(arc.victim(&|_| true), Some(c));
        // One that left too early from the first line moves the target.
        arc.left(c);
        arc.entered(b);
        assert_eq!((arc.target, arc.more.len()), (1, 2));
        assert_eq!(arc.victim(&|block| block == b), Some(b));
        assert_eq!(arc.victim(&|_| false), None);
    }
}
