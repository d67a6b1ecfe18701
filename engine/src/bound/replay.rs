//! Replay of a run's own routing through a cache of experts: what any run must read.

use larder_pool::policy::{Lru, Policy};
use larder_pool::units::BlockId;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Experts in the order in which a run asked for them.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Before the first decode step: they warm the cache.
    pub prefill: &'a [BlockId],
    pub decode: &'a [BlockId],
}

impl Record<'_> {
    /// All accesses, and whether each is of decoding.
    pub(super) fn accesses(&self) -> impl Iterator<Item = (bool, BlockId)> + '_ {
        let warming = self.prefill.iter().map(|&block| (false, block));
        warming.chain(self.decode.iter().map(|&block| (true, block)))
    }

    /// Misses while decoding of a cache of `slots` experts that drops the least recently used.
    pub fn lru_misses(&self, slots: usize) -> u64 {
        let (mut lru, mut held) = (Lru::default(), HashSet::new());
        let mut misses = 0;
        for (counts, block) in self.accesses() {
            if held.contains(&block) {
                lru.used(block);
                continue;
            }
            misses += u64::from(counts);
            if slots == 0 {
                continue;
            }
            if held.len() == slots {
                let victim = lru.victim(&|_| true).expect("a full cache has a victim");
                lru.left(victim);
                held.remove(&victim);
            }
            lru.entered(block);
            held.insert(block);
        }
        misses
    }

    /// Misses while decoding of a cache that drops what is used last.
    ///
    /// Source: Belady, A study of replacement algorithms, 1966.
    pub fn optimal_misses(&self, slots: usize) -> u64 {
        let accesses: Vec<(bool, BlockId)> = self.accesses().collect();
        let mut next = vec![usize::MAX; accesses.len()];
        let mut seen: HashMap<BlockId, usize> = HashMap::new();
        for (at, (_, block)) in accesses.iter().enumerate().rev() {
            next[at] = seen.insert(*block, at).unwrap_or(usize::MAX);
        }
        let mut held: HashMap<BlockId, usize> = HashMap::new();
        let mut by_use: BTreeSet<(usize, BlockId)> = BTreeSet::new();
        let mut misses = 0;
        for (at, &(counts, block)) in accesses.iter().enumerate() {
            if let Some(now) = held.remove(&block) {
                by_use.remove(&(now, block));
            } else {
                misses += u64::from(counts);
                if slots == 0 {
                    continue;
                }
                if held.len() == slots {
                    let (_, victim) = by_use.pop_last().expect("a full cache has a victim");
                    held.remove(&victim);
                }
            }
            held.insert(block, next[at]);
            by_use.insert((next[at], block));
        }
        misses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_optimum_misses_no_more_than_lru() {
        let ids = |list: &[u32]| list.iter().map(|&id| BlockId::new(id)).collect::<Vec<_>>();
        let (prefill, decode) = (ids(&[1, 2, 3]), ids(&[1, 2, 3, 1, 2, 3]));
        let record = Record {
            prefill: &prefill,
            decode: &decode,
        };
        // A cyclic scan: least recently used always drops what comes next.
        assert_eq!((record.lru_misses(2), record.optimal_misses(2)), (6, 3));
        assert_eq!((record.lru_misses(3), record.optimal_misses(3)), (0, 0));
        assert_eq!((record.lru_misses(0), record.optimal_misses(0)), (6, 6));
    }
}
