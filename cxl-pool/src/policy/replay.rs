//! A policy alone: a cache of equal frames that is told what is used, and moves nothing.

use super::Policy;
use crate::units::{BlockId, PromptId};
use std::collections::HashSet;

/// What a cache is asked for, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uses<'a> {
    pub blocks: &'a [BlockId],
    /// What is known beside the blocks, in order.
    pub told: &'a [Told],
    /// The first uses, which only warm the cache.
    pub warming: usize,
}

/// What a policy is told before the use at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub at: usize,
    pub what: What,
}

/// See `Policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Prompt(PromptId),
    Answered(PromptId, u64),
}

/// Misses of a cache of `slots` frames.
pub fn misses(policy: &mut dyn Policy, uses: Uses<'_>, slots: usize) -> u64 {
    let mut held = HashSet::new();
    let mut told = uses.told.iter().peekable();
    let mut misses = 0;
    for (at, &block) in uses.blocks.iter().enumerate() {
        while let Some(told) = told.next_if(|told| told.at <= at) {
            match told.what {
                What::Prompt(prompt) => policy.prompt(prompt),
                What::Answered(prompt, tokens) => policy.answered(prompt, tokens),
            }
        }
        if !held.contains(&block) {
            misses += u64::from(at >= uses.warming);
            if slots == 0 {
                continue;
            }
            if held.len() == slots {
                let victim = policy.victim(&|_| true);
                let victim = victim.expect("a full cache has a victim");
                assert!(held.remove(&victim), "the victim was resident");
                policy.left(victim);
            }
            policy.entered(block);
            held.insert(block);
        }
        policy.used(block);
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::super::{Arc, Belady, Lfu, Lru, S3Fifo, Value};
    use super::*;

    fn ids(list: impl IntoIterator<Item = u32>) -> Vec<BlockId> {
        list.into_iter().map(BlockId::new).collect()
    }

    fn all(accesses: &[BlockId]) -> [Box<dyn Policy>; 6] {
        [
            Box::new(Lru::default()),
            Box::new(Lfu::default()),
            Box::new(Arc::default()),
            Box::new(S3Fifo::default()),
            Box::new(Value::default()),
            Box::new(Belady::new(accesses)),
        ]
    }

    fn misses_of(accesses: &[BlockId], slots: usize) -> [u64; 6] {
        let uses = Uses {
            blocks: accesses,
            ..Uses::default()
        };
        all(accesses).map(|mut policy| misses(policy.as_mut(), uses, slots))
    }

    /// Numbers that look random and are the same everywhere.
    fn random(count: usize, below: u32) -> Vec<BlockId> {
        let mut state = 7u64;
        ids((0..count).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Small numbers more often.
            let draw = |shift| (state >> shift) as u32 % below;
            draw(33).min(draw(40))
        }))
    }

    #[test]
    fn no_policy_beats_the_optimum_and_a_large_cache_misses_each_block_once() {
        let accesses = random(4000, 60);
        for slots in [1, 7, 20, 45] {
            let found = misses_of(&accesses, slots);
            let best = found[5];
            assert!(found.iter().all(|&misses| misses >= best), "{found:?}");
        }
        assert_eq!(misses_of(&accesses, 60), [misses_of(&accesses, 60)[0]; 6]);
        assert_eq!(misses_of(&accesses, 0), [4000; 6]);
    }

    #[test]
    fn warming_accesses_do_not_count() {
        let accesses = ids([1, 2, 3, 1, 2, 3, 4]);
        let uses = Uses {
            blocks: &accesses,
            warming: 3,
            ..Uses::default()
        };
        assert_eq!(misses(&mut Lru::default(), uses, 3), 1);
    }

    #[test]
    fn what_is_known_is_told_before_its_use() {
        #[derive(Debug, Default)]
        struct Listener(Vec<String>);
        impl Policy for Listener {
            fn name(&self) -> &'static str {
                "listener"
            }
            fn entered(&mut self, _: BlockId) {}
            fn used(&mut self, block: BlockId) {
                self.0.push(block.to_string());
            }
            fn prompt(&mut self, prompt: PromptId) {
                self.0.push(format!("{prompt:?}"));
            }
            fn answered(&mut self, _: PromptId, tokens: u64) {
                self.0.push(format!("{tokens} tokens"));
            }
            fn left(&mut self, _: BlockId) {}
            fn victim(&self, _: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
                None
            }
        }
        let told = [
            (0, What::Prompt(PromptId::new(7))),
            (1, What::Answered(PromptId::new(7), 9)),
        ];
        let told = told.map(|(at, what)| Told { at, what });
        let uses = Uses {
            blocks: &ids([4, 5]),
            told: &told,
            warming: 0,
        };
        let mut listener = Listener::default();
        misses(&mut listener, uses, 2);
        assert_eq!(
            listener.0,
            ["PromptId(7)", "block 4", "9 tokens", "block 5"]
        );
    }

    #[test]
    fn a_scan_through_more_than_fits_keeps_a_fixed_set() {
        let accesses = ids((0..40_000).map(|at| at % 100));
        let [lru, _, _, _, ours, best] = misses_of(&accesses, 50);
        assert_eq!(lru, 40_000);
        // All but a slot of what could be kept, once it has been noticed.
        assert!(ours as f64 <= best as f64 * 1.08, "{ours} of {best}");
    }

    #[test]
    fn ours_is_near_the_better_of_recency_and_frequency() {
        // Skewed use: frequency is right.
        let accesses = random(30_000, 400);
        let [lru, _, _, _, ours, best] = misses_of(&accesses, 100);
        let closed = (lru as f64 - ours as f64) / (lru - best) as f64;
        assert!(closed > 0.1, "{closed}");
        // A window that moves: recency is right.
        let moving = ids((0..30_000u32).map(|at| at / 8 + (at * 7 + at / 3) % 60));
        let [lru, _, _, _, ours, _] = misses_of(&moving, 80);
        assert!(ours as f64 <= lru as f64 * 1.03 + 100.0, "{ours} of {lru}");
    }
}
