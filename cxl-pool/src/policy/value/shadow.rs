//! A cache without bytes: which blocks a rule would hold now, and what it has missed lately.

use crate::units::BlockId;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap};

/// What decides who stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// The last used.
    Recency,
    /// The most used, a use counting less the longer ago it was: a half after `ln 2` times this
    /// many accesses. A newcomer stays only if it was used more before than the least of those
    /// that are there; so in a scan through more than fits, what came first stays.
    Frequency { memory: f64 },
}

/// A rank that orders like a decayed count and never changes between uses: the logarithm of the
/// count at its last use, plus that time in units of the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank(f64);

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Nobody has used it.
const NEVER: Rank = Rank(f64::NEG_INFINITY);

impl Rank {
    /// Of the last use, if there was one.
    pub(super) fn at(last: Option<f64>) -> Self {
        last.map_or(NEVER, Self)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shadow {
    rule: Rule,
    /// Of every block that was ever used: blocks are named by the model, so these are bounded.
    ranks: HashMap<BlockId, Rank>,
    held: BTreeSet<(Rank, BlockId)>,
    /// Misses of blocks used before, each counting less the longer ago it was.
    misses: f64,
}

impl Shadow {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            ranks: HashMap::new(),
            held: BTreeSet::new(),
            misses: 0.0,
        }
    }

    pub(super) fn rank(&self, block: BlockId) -> Rank {
        self.ranks.get(&block).copied().unwrap_or(NEVER)
    }

    pub(super) fn holds(&self, block: BlockId) -> bool {
        self.held.contains(&(self.rank(block), block))
    }

    pub(super) const fn misses(&self) -> f64 {
        self.misses
    }

    /// Goes on with another memory, at `now`: what is remembered keeps its count.
    pub(super) fn remember_for(&mut self, memory: f64, now: f64) {
        let Rule::Frequency { memory: before } = self.rule else {
            return;
        };
        let moved = |rank: Rank| Rank(rank.0 - now / before + now / memory);
        for rank in self.ranks.values_mut() {
            *rank = moved(*rank);
        }
        let held = std::mem::take(&mut self.held).into_iter();
        self.held = held.map(|(rank, block)| (moved(rank), block)).collect();
        self.rule = Rule::Frequency { memory };
    }

    /// A use at `now` of a block that is worth `worth` per use and byte, in a cache of `slots`;
    /// misses before it count `decay` less. Frames of a cache that shrank are given up first. The
    /// blocks that are not held any more come back.
    pub(super) fn used(
        &mut self,
        (block, worth): (BlockId, f64),
        now: f64,
        slots: usize,
        decay: f64,
    ) -> SmallVec<[BlockId; 2]> {
        let mut gone = SmallVec::new();
        let before = self.rank(block);
        let was_held = self.held.remove(&(before, block));
        let after = match self.rule {
            Rule::Recency => Rank(now),
            Rule::Frequency { memory } => {
                let now = now / memory;
                let decayed = (before.0 - now).exp();
                Rank((decayed + worth).ln() + now)
            }
        };
        self.ranks.insert(block, after);
        self.misses *= decay;
        // Whatever the rule, a first use misses.
        self.misses += f64::from(u8::from(!was_held && before != NEVER));
        // One frame is for what passes through.
        let kept = match self.rule {
            Rule::Recency => slots,
            Rule::Frequency { .. } => slots.saturating_sub(1),
        };
        while self.held.len() > kept {
            gone.extend(self.held.pop_first().map(|(_, block)| block));
        }
        if was_held || self.held.len() < kept {
            self.held.insert((after, block));
        } else if let Some(&(least, victim)) = self.held.first()
            && (self.rule == Rule::Recency || before > least)
        {
            self.held.remove(&(least, victim));
            self.held.insert((after, block));
            gone.push(victim);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rule: Rule, accesses: &[u32], slots: usize) -> Shadow {
        let mut shadow = Shadow::new(rule);
        for (at, &block) in accesses.iter().enumerate() {
            shadow.used((BlockId::new(block), 1.0), at as f64, slots, 1.0);
        }
        shadow
    }

    #[test]
    fn a_newcomer_must_have_been_used_more_before() {
        let frequency = Rule::Frequency { memory: 100.0 };
        // Two stay, one frame is for what passes through.
        let shadow = run(frequency, &[1, 2, 1, 2, 3, 4, 5], 3);
        let held = |block| shadow.holds(BlockId::new(block));
        assert!(held(1) && held(2) && !held(3) && !held(5));
        assert_eq!(shadow.misses(), 0.0, "first uses");
        let gone = shadow.rank(BlockId::new(1)) > shadow.rank(BlockId::new(5));
        assert!(gone, "used twice");
        let shadow = run(Rule::Recency, &[1, 2, 1, 2, 3, 4, 5, 2], 3);
        assert_eq!(shadow.misses(), 1.0);
        assert!(shadow.holds(BlockId::new(5)) && !shadow.holds(BlockId::new(1)));
    }

    #[test]
    fn old_uses_count_less() {
        let frequency = Rule::Frequency { memory: 4.0 };
        let old = [1, 1, 1, 1].into_iter().chain((0..40).map(|_| 2));
        let shadow = run(frequency, &old.collect::<Vec<_>>(), 3);
        let (one, two) = (BlockId::new(1), BlockId::new(2));
        assert!(shadow.rank(two) > shadow.rank(one));
        assert_eq!(shadow.rank(BlockId::new(9)), NEVER);
        // A longer memory changes nothing of what is remembered now.
        let mut longer = shadow;
        let before = longer.rank(two).0 - 43.0 / 4.0;
        longer.remember_for(400.0, 43.0);
        assert!((longer.rank(two).0 - 43.0 / 400.0 - before).abs() < 1e-9);
        assert!(longer.holds(two));
        // What is worth more per byte ranks higher after as many uses.
        let mut shadow = Shadow::new(frequency);
        shadow.used((one, 1.0), 0.0, 4, 1.0);
        shadow.used((two, 3.0), 0.0, 4, 1.0);
        assert!(shadow.rank(two) > shadow.rank(one));
    }
}
