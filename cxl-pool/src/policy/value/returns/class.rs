//! Classes of blocks that return alike, and what they are told apart by.

use crate::units::{BlockId, PromptId, SLICE_TOKENS};

/// The last block of a run, which ends within it, and one that its prefix went on without.
pub(super) const END: usize = 0;
pub(super) const PASSED_BY: usize = 1;
const FIRST: usize = 2;
/// New blocks behind more than this many used ones go on with something.
const SHORT: usize = 3;
/// Of runs: six counts of uses by three kinds of run.
const KINDS: usize = 3;
const OF_RUNS: usize = FIRST + 6 * KINDS;
/// Of prompts: first ones by length; later ones by turn, by whether the block is of the prefix or
/// new, and by the number of new blocks. Each of them with a long answer and with a short one: what
/// is not known to be short counts as long.
const LENGTHS: [usize; 2] = [6, 20];
const TURNS: u32 = 2;
const NEW: [usize; 2] = [4, 9];
const LATER: usize = FIRST + LENGTHS.len() + 1;
const LONG: usize = LATER + TURNS as usize * 2 * (NEW.len() + 1);
const OF_PROMPTS: usize = LONG + (LONG - FIRST);
/// An answer of fewer tokens is a short one. Who got one comes back late or not at all, the others
/// soon or not at all.
const ANSWER_SHORT: u64 = SLICE_TOKENS as u64;

/// Where runs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::value) enum Kinds {
    /// Read off the uses: blocks used before, then new ones.
    Runs,
    /// Told: prompts of conversations.
    Prompts,
}

impl Kinds {
    pub(super) const fn classes(self) -> usize {
        match self {
            Self::Runs => OF_RUNS,
            Self::Prompts => OF_PROMPTS,
        }
    }
}

/// Blocks used one after the other.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) prompt: Option<PromptId>,
    /// With how often each had been used then.
    pub(super) blocks: Vec<(BlockId, u32)>,
    /// How many of them had been used before it.
    pub(super) used_before: usize,
    /// Turn of the conversation, from 0.
    pub(super) turn: u32,
    /// Time of its first use.
    pub(super) start: u64,
}

/// What a block is in its run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Uses so far.
    pub(super) uses: u32,
    /// It had been used before the run.
    pub(super) is_prefix: bool,
}

impl Run {
    pub(super) const fn new_blocks(&self) -> usize {
        self.blocks.len() - self.used_before
    }

    /// Class of a block that is not the end.
    pub(super) fn class(&self, kinds: Kinds, part: Part) -> usize {
        match kinds {
            Kinds::Runs => class_in_run(part.uses, self.used_before, self.new_blocks()),
            Kinds::Prompts if self.turn == 0 => {
                FIRST + LENGTHS.partition_point(|&most| most < self.blocks.len())
            }
            Kinds::Prompts => {
                let turn = (self.turn.min(TURNS) - 1) as usize;
                let new = NEW.partition_point(|&most| most < self.new_blocks());
                LATER + (turn * 2 + usize::from(part.is_prefix)) * (NEW.len() + 1) + new
            }
        }
    }
}

/// The class of the same block when the answer has so many tokens.
pub(super) fn answered(class: usize, tokens: u64) -> usize {
    if tokens < ANSWER_SHORT && (FIRST..LONG).contains(&class) {
        class + (LONG - FIRST)
    } else {
        class
    }
}

/// Class of a block with so many uses in a run of `before` blocks used before and `new` ones.
pub(super) const fn class_in_run(uses: u32, before: usize, new: usize) -> usize {
    let kind = if uses == 1 && before <= SHORT || uses > 1 && new <= SHORT {
        0
    } else if new * 4 < before {
        1
    } else {
        2
    };
    let used = match uses {
        0..=1 => 0,
        2 => 1,
        3 => 2,
        4..=5 => 3,
        6..=7 => 4,
        _ => 5,
    };
    FIRST + used * KINDS + kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn classes_of_prompts_are_within_bounds_and_apart() {
        let mut found = HashSet::new();
        for (turn, used, new) in [
            (0, 1, 3),
            (0, 1, 12),
            (0, 1, 90),
            (1, 9, 2),
            (2, 9, 6),
            (7, 9, 30),
        ] {
            let run = Run {
                blocks: vec![(BlockId::new(0), 1); used + new],
                used_before: used,
                turn,
                ..Run::default()
            };
            let parts = if turn == 0 { 1 } else { 2 };
            for is_prefix in [false, true].into_iter().take(parts) {
                let long = run.class(Kinds::Prompts, Part { uses: 1, is_prefix });
                assert_eq!(answered(long, ANSWER_SHORT), long);
                let short = answered(long, ANSWER_SHORT - 1);
                assert!(short < OF_PROMPTS && found.insert(long) && found.insert(short));
                assert_eq!(answered(short, 0), short);
            }
        }
        assert_eq!(answered(END, 0), END);
        assert_eq!(answered(PASSED_BY, 0), PASSED_BY);
    }
}
