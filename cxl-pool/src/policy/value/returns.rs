//! A cache without bytes that holds what will be back soonest for the room it takes.
//!
//! How long blocks stay away is learned while they are used, class by class. A block's index is
//! the best ratio, over all times it could be given, of the chance that it returns within that
//! time to the room that it takes until then; the lowest index leaves. Nothing is known of
//! requests: runs are read off the uses, as blocks that were used before and then new ones. So a
//! prefix and what follows it are told apart, and a branch that its prefix went on without.
//!
//! Sources: Gittins, Bandit processes and dynamic allocation indices, 1979; hit density per class
//! and age: Beckmann, Chen and Cidon, LHD, NSDI 2018.

mod table;

use super::shadow::Rank;
use crate::units::BlockId;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, VecDeque};
use table::{CLASSES, Table, bin_of, span};

/// Uses of this many frames ago are forgotten: those that were not back by then count as gone.
const REMEMBERED: u64 = 16;
/// One use of so many is followed: neighbours share their fate, and say little more.
const FOLLOWED: u64 = 4;
/// New blocks behind more than this many used ones go on with something.
const SHORT: usize = 3;
/// A prefix with more uses than this is shared by many: each branch of it goes on without others.
const SHARED: u32 = 8;
/// A run is closed at this length, whatever comes.
const LONGEST: usize = 4096;
/// Classes: the last new block of a run, one that its prefix went on without, and by kind of run
/// those used once, twice and so on.
const END: usize = 0;
const PASSED_BY: usize = 1;
const FIRST: usize = 2;
const KINDS: usize = 3;

#[derive(Debug)]
struct Block {
    last: u64,
    uses: u32,
    class: usize,
    is_held: bool,
    /// What was used right after its last use, and what comes after it in turn.
    next: Option<BlockId>,
    /// Fewest uses of a prefix that went on without it since its last use.
    passed_by: u32,
}

/// A use, to be looked at again when it is older.
#[derive(Debug)]
struct Use {
    block: BlockId,
    /// Time until the next use and the class then.
    returned: Option<(u64, usize)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// Every block that was ever used: blocks are named by the model, so these are bounded.
    blocks: HashMap<BlockId, Block>,
    /// Held blocks of each class by their last use.
    held: [BTreeMap<u64, BlockId>; CLASSES],
    count: usize,
    /// The last uses; the first of them was at `since`.
    log: VecDeque<Use>,
    since: u64,
    now: u64,
    table: Table,
    /// Blocks of the run under way and their uses, and how many of them had been used before it.
    run: Vec<(BlockId, u32)>,
    used_before: usize,
    before: Option<BlockId>,
    misses: f64,
}

impl Returns {
    pub(super) fn holds(&self, block: BlockId) -> bool {
        self.blocks.get(&block).is_some_and(|block| block.is_held)
    }

    /// Where none of those that it would drop may leave, the last used stay.
    pub(super) fn rank(&self, block: BlockId) -> Rank {
        Rank::at(self.blocks.get(&block).map(|block| block.last as f64))
    }

    pub(super) const fn misses(&self) -> f64 {
        self.misses
    }

    /// A use of a block in a cache of `slots`; misses before it count `decay` less. The blocks
    /// that are not held any more come back.
    pub(super) fn used(
        &mut self,
        block: BlockId,
        slots: usize,
        decay: f64,
    ) -> SmallVec<[BlockId; 2]> {
        self.now += 1;
        self.learn(slots as u64);
        self.table.refresh(self.now, slots);
        let is_new = !self.blocks.contains_key(&block);
        let has_new = self.run.len() > self.used_before;
        if !is_new && has_new || self.run.len() >= LONGEST {
            self.close_run();
        }
        let was_held = self.touch(block);
        self.run.push((block, self.blocks[&block].uses));
        self.used_before += usize::from(!is_new);
        let behind = self.run.len() - self.used_before;
        let class = class(self.blocks[&block].uses, self.used_before, behind);
        self.pass_by(block);
        self.misses *= decay;
        self.misses += f64::from(u8::from(!was_held && !is_new));
        // One frame is for what passes through.
        let kept = slots.saturating_sub(1);
        let mut gone = SmallVec::new();
        while self.count > 0 && self.count + 1 > kept {
            gone.extend(self.drop_least());
        }
        if kept > 0 {
            self.hold(block, class);
        } else if let Some(known) = self.blocks.get_mut(&block) {
            known.class = class;
        }
        gone
    }

    /// Uses that have grown as old as the end of a span say whether the block came back in it.
    fn learn(&mut self, slots: u64) {
        for bin in 0..table::BINS {
            let (_, end) = span(bin);
            let at = self.now.checked_sub(end);
            let Some(at) = at.filter(|&at| at >= self.since) else {
                break;
            };
            if !is_followed(at) {
                continue;
            }
            let Some(then) = self.log.get((at - self.since) as usize) else {
                continue;
            };
            match then.returned {
                None => self.table.stayed_away(self.blocks[&then.block].class, bin),
                Some((age, class)) if bin_of(age) > bin => self.table.stayed_away(class, bin),
                Some((age, class)) if bin_of(age) == bin => self.table.returned(class, bin),
                Some(_) => {}
            }
        }
        while self.log.len() as u64 > (REMEMBERED * slots).max(64) {
            self.log.pop_front();
            self.since += 1;
        }
        if self.log.is_empty() {
            self.since = self.now;
        }
    }

    /// Notes the use, and takes the block out; whether it was held.
    fn touch(&mut self, block: BlockId) -> bool {
        self.log.push_back(Use {
            block,
            returned: None,
        });
        let now = self.now;
        let known = self.blocks.entry(block).or_insert(Block {
            last: now,
            uses: 0,
            class: END,
            is_held: false,
            next: None,
            passed_by: u32::MAX,
        });
        if known.uses > 0 && known.last >= self.since {
            let then = self.log.get_mut((known.last - self.since) as usize);
            if let Some(then) = then {
                then.returned = Some((now - known.last, known.class));
            }
        }
        let was_held = std::mem::take(&mut known.is_held);
        if was_held {
            self.held[known.class].remove(&known.last);
            self.count -= 1;
        }
        known.uses = known.uses.saturating_add(1);
        known.last = now;
        known.passed_by = u32::MAX;
        was_held
    }

    fn hold(&mut self, block: BlockId, class: usize) {
        if let Some(known) = self.blocks.get_mut(&block) {
            known.class = class;
            known.is_held = true;
            self.held[class].insert(known.last, block);
            self.count += 1;
        }
    }

    fn reclass(&mut self, block: BlockId, class: usize) {
        let Some(known) = self.blocks.get_mut(&block) else {
            return;
        };
        if known.is_held {
            self.held[known.class].remove(&known.last);
            self.held[class].insert(known.last, block);
        }
        known.class = class;
    }

    /// What kind of run it was is known when it ends.
    fn close_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        let before = std::mem::take(&mut self.used_before);
        let new = run.len() - before;
        for (index, &(block, uses)) in run.iter().enumerate() {
            let known = &self.blocks[&block];
            // Used again within the run.
            if known.uses != uses || known.passed_by != u32::MAX {
                continue;
            }
            let is_end = new > 0 && index + 1 == run.len();
            let class = if is_end {
                END
            } else {
                class(uses, before, new)
            };
            self.reclass(block, class);
        }
    }

    /// What followed the block before last time, and all that followed it in turn, was left aside
    /// if another follows now.
    fn pass_by(&mut self, block: BlockId) {
        let Some(before) = self.before.replace(block) else {
            return;
        };
        let Some(prefix) = self.blocks.get_mut(&before) else {
            return;
        };
        let uses = prefix.uses;
        let mut next = prefix.next.replace(block).filter(|&next| next != block);
        if uses > SHARED {
            return;
        }
        let mut time = None;
        while let Some(aside) = next.filter(|&aside| aside != block) {
            let Some(known) = self.blocks.get_mut(&aside) else {
                return;
            };
            let same_run = *time.get_or_insert(known.last) == known.last;
            if !same_run || known.last + 1 >= self.now || known.passed_by <= uses {
                return;
            }
            known.passed_by = uses;
            time = Some(known.last + 1);
            next = known.next;
            self.reclass(aside, PASSED_BY);
        }
    }

    fn drop_least(&mut self) -> Option<BlockId> {
        let now = self.now + 1;
        let listed = self.table.order().iter().find_map(|&(class, bin)| {
            let (start, end) = span(bin);
            let times = now.saturating_sub(end)..now.saturating_sub(start);
            let mut oldest = self.held[class].range(times);
            oldest.next().map(|(&last, &block)| (class, last, block))
        });
        let oldest = || {
            let held = self.held.iter().enumerate();
            let oldest = held.filter_map(|(class, held)| {
                held.first_key_value()
                    .map(|(&last, &block)| (class, last, block))
            });
            oldest.min_by_key(|&(_, last, _)| last)
        };
        let (class, last, block) = listed.or_else(oldest)?;
        self.held[class].remove(&last);
        self.count -= 1;
        if let Some(known) = self.blocks.get_mut(&block) {
            known.is_held = false;
        }
        Some(block)
    }
}

/// Spread evenly and without a period that uses could share.
const fn is_followed(at: u64) -> bool {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(FOLLOWED)
}

/// Class of a block with so many uses in a run of `before` blocks used before and `new` ones.
const fn class(uses: u32, before: usize, new: usize) -> usize {
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

    fn id(index: u32) -> BlockId {
        BlockId::new(index)
    }

    fn use_all(returns: &mut Returns, blocks: impl IntoIterator<Item = u32>, slots: usize) {
        for block in blocks {
            returns.used(id(block), slots, 1.0);
        }
    }

    #[test]
    fn ends_of_runs_and_branches_left_aside_are_told_apart() {
        let mut returns = Returns::default();
        // A prompt of 1 2 3 with an end, then the same prompt with another.
        use_all(&mut returns, [1, 2, 3, 4, 1], 100);
        assert_eq!(returns.blocks[&id(4)].class, END);
        assert_eq!(returns.blocks[&id(3)].class, class(1, 0, 4));
        use_all(&mut returns, [2, 5, 6, 7], 100);
        assert_eq!(returns.blocks[&id(3)].class, PASSED_BY);
        assert_eq!(returns.blocks[&id(4)].class, PASSED_BY);
        assert_ne!(returns.blocks[&id(2)].class, PASSED_BY);
        // A use makes it one of the others again.
        use_all(&mut returns, [3], 100);
        assert_ne!(returns.blocks[&id(3)].class, PASSED_BY);
    }

    #[test]
    fn a_shared_prefix_leaves_nothing_aside() {
        let mut returns = Returns::default();
        for branch in 0..20 {
            use_all(&mut returns, [0, 10 + branch * 2, 11 + branch * 2], 200);
        }
        assert_eq!(returns.blocks[&id(10)].class, PASSED_BY);
        assert_ne!(returns.blocks[&id(46)].class, PASSED_BY);
    }

    #[test]
    fn what_never_returns_leaves_before_what_does() {
        let mut returns = Returns::default();
        // Prompts that are asked twice, the second time 30 prompts later; their ends differ.
        for prompt in 0..2000u32 {
            let asked = |prompt: u32| (0..4).map(move |at| prompt * 8 + at);
            let end = |half: u32| prompt * 8 + 4 + half;
            use_all(&mut returns, asked(prompt).chain([end(0)]), 150);
            if let Some(before) = prompt.checked_sub(30) {
                use_all(&mut returns, asked(before).chain([end(1)]), 150);
            }
        }
        let held = |at: u32| {
            let of_prompt = |prompt: u32| returns.holds(id(prompt * 8 + at));
            (1971..2000).filter(|&prompt| of_prompt(prompt)).count()
        };
        // The last used would be those of 15 prompts.
        assert!(held(1) > 20 && held(1) > held(4), "{} {}", held(1), held(4));
        let counted: usize = returns.held.iter().map(BTreeMap::len).sum();
        assert_eq!((counted, returns.count), (149, 149));
    }

    #[test]
    fn a_cache_without_room_holds_nothing() {
        let mut returns = Returns::default();
        use_all(&mut returns, [1, 2, 1, 3], 1);
        assert_eq!(returns.count, 0);
        use_all(&mut returns, [1, 2, 3, 4], 3);
        assert_eq!(returns.count, 2);
        assert!(returns.used(id(9), 0, 1.0).len() == 2);
    }
}
