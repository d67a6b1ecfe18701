//! A cache without bytes that holds what will be back soonest for the room it takes.
//!
//! How long blocks stay away is learned while they are used, class by class. A block's index is
//! the best ratio, over all times it could be given, of the chance that it returns within that
//! time to the room that it takes until then; the lowest index leaves. Where nothing is known of
//! requests, runs are read off the uses, as blocks that were used before and then new ones. So a
//! prefix and what follows it are told apart, and a branch that its prefix went on without. A cache
//! of KV tells prompts and answers: the length of an answer says most about when its reader is
//! back.
//!
//! Sources: Gittins, Bandit processes and dynamic allocation indices, 1979; hit density per class
//! and age: Beckmann, Chen and Cidon, LHD, NSDI 2018.

mod class;
mod table;

use super::shadow::Rank;
use crate::units::{BlockId, PromptId};
use class::{END, PASSED_BY, Part, Run};
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, VecDeque};
use table::{Table, bin_of, span};

pub(super) use class::Kinds;

/// Uses of this many frames ago are forgotten: those that were not back by then count as gone.
const REMEMBERED: u64 = 16;
/// One use of so many is followed: neighbours share their fate, and say little more.
const FOLLOWED: u64 = 4;
/// A prefix with more uses than this is shared by many: each branch of it goes on without others.
const SHARED: u32 = 8;
/// A run is closed at this length, whatever comes.
const LONGEST: usize = 4096;
/// Answers under way at most; the oldest are forgotten.
const ANSWERS_MAX: usize = 4096;

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
    /// Turn of the conversation at its last prompt, from 0.
    turn: u32,
    /// Among the held ones of its class: the time of its last use, but within a prompt from its
    /// end to its front, because a block is of no use without those before it.
    place: u64,
}

/// A use, to be looked at again when it is older.
#[derive(Debug)]
struct Use {
    block: BlockId,
    /// Time until the next use and the class then.
    returned: Option<(u64, usize)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Returns {
    kinds: Kinds,
    /// Every block that was ever used: blocks are named by the model, so these are bounded.
    blocks: HashMap<BlockId, Block>,
    /// Held blocks of each class by their place.
    held: Vec<BTreeMap<u64, BlockId>>,
    count: usize,
    /// The last uses; the first of them was at `since`.
    log: VecDeque<Use>,
    since: u64,
    now: u64,
    table: Table,
    run: Run,
    /// Blocks of the prompts that have no whole answer yet, with the time of their use.
    answers: VecDeque<(PromptId, Vec<(BlockId, u64)>)>,
    before: Option<BlockId>,
    misses: f64,
}

impl Returns {
    pub(super) fn new(kinds: Kinds) -> Self {
        let classes = kinds.classes();
        Self {
            kinds,
            blocks: HashMap::new(),
            held: vec![BTreeMap::new(); classes],
            count: 0,
            log: VecDeque::new(),
            since: 0,
            now: 0,
            table: Table::new(classes),
            run: Run::default(),
            answers: VecDeque::new(),
            before: None,
            misses: 0.0,
        }
    }

    pub(super) fn holds(&self, block: BlockId) -> bool {
        self.blocks.get(&block).is_some_and(|block| block.is_held)
    }

    /// Where none of those that it would drop may leave, the last used stay.
    pub(super) fn rank(&self, block: BlockId) -> Rank {
        Rank::at(self.blocks.get(&block).map(|block| block.last as f64))
    }

    pub(super) const fn kinds(&self) -> Kinds {
        self.kinds
    }

    pub(super) const fn misses(&self) -> f64 {
        self.misses
    }

    /// The uses that follow are of this prompt.
    pub(super) fn prompt(&mut self, prompt: PromptId) {
        self.close_run();
        self.before = None;
        self.run.prompt = Some(prompt);
    }

    /// The answer to a prompt has ended.
    pub(super) fn answered(&mut self, prompt: PromptId, tokens: u64) {
        if self.run.prompt == Some(prompt) {
            self.close_run();
        }
        let at = self.answers.iter().position(|(other, _)| *other == prompt);
        let Some((_, blocks)) = at.and_then(|at| self.answers.remove(at)) else {
            return;
        };
        for (block, last) in blocks {
            let known = &self.blocks[&block];
            if known.last == last && known.passed_by == u32::MAX {
                self.reclass(block, class::answered(known.class, tokens));
            }
        }
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
        let is_behind = self.kinds == Kinds::Runs && !is_new && self.run.new_blocks() > 0;
        if is_behind || self.run.blocks.len() >= LONGEST {
            self.close_run();
        }
        if !is_new && self.run.new_blocks() == 0 {
            let known = &self.blocks[&block];
            self.run.turn = if known.uses > SHARED {
                0
            } else {
                known.turn + 1
            };
        }
        if self.run.blocks.is_empty() {
            self.run.start = self.now;
        }
        let was_held = self.touch(block);
        let uses = self.blocks[&block].uses;
        self.run.blocks.push((block, uses));
        self.run.used_before += usize::from(!is_new);
        let part = Part {
            uses,
            is_prefix: !is_new,
        };
        let class = self.run.class(self.kinds, part);
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
            turn: 0,
            place: now,
        });
        if known.uses > 0 && known.last >= self.since {
            let then = self.log.get_mut((known.last - self.since) as usize);
            if let Some(then) = then {
                then.returned = Some((now - known.last, known.class));
            }
        }
        let was_held = std::mem::take(&mut known.is_held);
        if was_held {
            self.held[known.class].remove(&known.place);
            self.count -= 1;
        }
        known.uses = known.uses.saturating_add(1);
        known.last = now;
        known.place = now;
        known.passed_by = u32::MAX;
        was_held
    }

    fn hold(&mut self, block: BlockId, class: usize) {
        if let Some(known) = self.blocks.get_mut(&block) {
            known.class = class;
            known.is_held = true;
            self.held[class].insert(known.place, block);
            self.count += 1;
        }
    }

    fn reclass(&mut self, block: BlockId, class: usize) {
        let Some(known) = self.blocks.get_mut(&block) else {
            return;
        };
        if known.is_held {
            self.held[known.class].remove(&known.place);
            self.held[class].insert(known.place, block);
        }
        known.class = class;
    }

    /// What kind of run it was is known when it ends.
    fn close_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if self.kinds == Kinds::Prompts {
            self.turn_round(&run);
        }
        let end = run.blocks.len().saturating_sub(1);
        let mut answer = Vec::new();
        for (index, &(block, uses)) in run.blocks.iter().enumerate() {
            let Some(known) = self.blocks.get_mut(&block) else {
                continue;
            };
            // Used again within the run.
            if known.uses != uses || known.passed_by != u32::MAX {
                continue;
            }
            known.turn = run.turn;
            answer.push((block, known.last));
            let part = Part {
                uses,
                is_prefix: index < run.used_before,
            };
            let class = if run.new_blocks() > 0 && index == end {
                END
            } else {
                run.class(self.kinds, part)
            };
            self.reclass(block, class);
        }
        if let Some(prompt) = run.prompt {
            if self.answers.len() >= ANSWERS_MAX {
                self.answers.pop_front();
            }
            self.answers.push_back((prompt, answer));
        }
    }

    /// Places of the blocks of a prompt, from its end to its front.
    fn turn_round(&mut self, run: &Run) {
        let ends = run.start * 2 + run.blocks.len() as u64;
        let mut moved = Vec::new();
        for &(block, uses) in &run.blocks {
            let known = self.blocks.get_mut(&block);
            let Some(known) = known.filter(|known| known.uses == uses) else {
                continue;
            };
            let before = std::mem::replace(&mut known.place, ends - 1 - known.last);
            if known.is_held {
                self.held[known.class].remove(&before);
                moved.push(block);
            }
        }
        for block in moved {
            let known = &self.blocks[&block];
            self.held[known.class].insert(known.place, block);
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
            oldest.next().map(|(&place, &block)| (class, place, block))
        });
        let oldest = || {
            let held = self.held.iter().enumerate();
            let oldest = held.filter_map(|(class, held)| {
                held.first_key_value()
                    .map(|(&place, &block)| (class, place, block))
            });
            oldest.min_by_key(|&(_, place, _)| place)
        };
        let (class, place, block) = listed.or_else(oldest)?;
        self.held[class].remove(&place);
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

#[cfg(test)]
mod tests;
