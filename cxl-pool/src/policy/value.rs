//! What is worth most stays: uses x cost to bring back / bytes, uses counting less with time.
//!
//! How fast uses should fade, and whether the last use alone says more, differs between traces and
//! changes within one. So several rules run beside each other as caches without bytes; the one
//! that has missed least lately is followed, and changed only when another is clearly ahead. First
//! uses do not count: they miss under any rule. The rules are recency, frequency by two memories,
//! and `returns`, which knows no costs, and learns most where prompts are told. There it is
//! followed from the start, because what the cache holds for one rule is lost on the next.

mod shadow;

mod returns;

use super::Policy;
use super::fresh::Fresh;
use crate::units::{BlockId, PromptId};
use returns::{Kinds, Returns};
use shadow::{Rank, Rule, Shadow};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Memories of the frequencies that run beside each other, in accesses per frame of the cache.
const MEMORIES: [f64; 2] = [4.0, 1024.0];
/// Misses fade over this many accesses per frame.
const JUDGED_OVER: f64 = 128.0;
/// Recency and frequency take turns when one misses less than this share of what the other does.
const AHEAD: f64 = 0.985;
/// Told of prompts, frequency takes the turn of `returns` when it misses less than this share.
const FAR_AHEAD: f64 = 0.9;
/// Of two memories the longer one is the better where nothing changes: chance in its misses must
/// not keep it from being followed.
const STEADY_SHARE: f64 = 0.98;
/// Places of the rules.
const RECENCY: usize = 0;
const STEADY: usize = MEMORIES.len();
const RETURNS: usize = STEADY + 1;
/// Accesses between two looks at who is ahead.
const LOOK_EVERY: u64 = 64;

type Worth = Box<dyn Fn(BlockId) -> f64 + Send>;

/// See the module.
pub struct Value {
    /// Cost to bring a block back, divided by its bytes.
    worth: Worth,
    shadows: Vec<Shadow>,
    returns: Returns,
    /// Index of the rule that is followed.
    followed: usize,
    /// Resident blocks by the rank of the followed rule: those it would not hold first.
    order: BTreeSet<(bool, Rank, BlockId)>,
    /// Of each resident block.
    places: HashMap<BlockId, (bool, Rank)>,
    /// Frames of the cache, as far as they were ever in use, and whether the last thing heard was
    /// that a block left: a cache that gives up several at once has shrunk.
    slots: usize,
    has_left: bool,
    /// Frames that the memories are made for.
    memory_slots: usize,
    fresh: Fresh,
    now: u64,
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = formatter.debug_struct("Value");
        let text = text.field("followed", &self.followed);
        text.field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl Default for Value {
    /// Every block costs as much per byte as any other.
    fn default() -> Self {
        Self::weighted(|_| 1.0)
    }
}

impl Value {
    /// `worth` gives the cost to bring a block back, divided by its bytes, in any unit; above zero.
    pub fn weighted(worth: impl Fn(BlockId) -> f64 + Send + 'static) -> Self {
        Self::new(Box::new(worth), Kinds::Runs)
    }

    /// Of the KV of prompts, which it is told of before their uses; every block costs as much as
    /// any other.
    pub fn of_prompts() -> Self {
        Self::new(Box::new(|_| 1.0), Kinds::Prompts)
    }

    fn new(worth: Worth, kinds: Kinds) -> Self {
        let mut rules = vec![Rule::Recency];
        rules.extend(MEMORIES.map(|memory| Rule::Frequency { memory }));
        Self {
            worth,
            shadows: rules.into_iter().map(Shadow::new).collect(),
            returns: Returns::new(kinds),
            // Told of prompts it is the best from the start: before it has learned, the last
            // used stay.
            followed: match kinds {
                Kinds::Runs => RECENCY,
                Kinds::Prompts => RETURNS,
            },
            order: BTreeSet::new(),
            places: HashMap::new(),
            slots: 0,
            has_left: false,
            memory_slots: 1,
            fresh: Fresh::default(),
            now: 0,
        }
    }
}

impl Value {
    fn count(&mut self, block: BlockId) {
        self.now += 1;
        let now = self.now as f64;
        self.fit_memories(now);
        let worth = (self.worth)(block);
        let decay = (-1.0 / (JUDGED_OVER * self.slots as f64)).exp();
        let mut moved = smallvec::SmallVec::<[BlockId; 4]>::new();
        for (index, shadow) in self.shadows.iter_mut().enumerate() {
            let gone = shadow.used((block, worth), now, self.slots, decay);
            if index == self.followed {
                moved.extend(gone);
            }
        }
        let gone = self.returns.used(block, self.slots, decay);
        if self.followed == RETURNS {
            moved.extend(gone);
        }
        moved.push(block);
        for block in moved {
            self.place(block);
        }
        if self.now.is_multiple_of(LOOK_EVERY) {
            self.look();
        }
    }

    /// Makes the memories anew when the cache has doubled or halved.
    fn fit_memories(&mut self, now: f64) {
        let range = self.memory_slots / 2 + 1..self.memory_slots * 2;
        if range.contains(&self.slots) || self.slots == self.memory_slots {
            return;
        }
        for (shadow, memory) in self.shadows[1..].iter_mut().zip(MEMORIES) {
            shadow.remember_for(memory * self.slots as f64, now);
        }
        self.memory_slots = self.slots;
        self.place_all();
    }

    /// Follows another rule if it is clearly ahead.
    fn look(&mut self) {
        let mut misses = [self.returns.misses(); RETURNS + 1];
        for (misses, shadow) in misses.iter_mut().zip(&self.shadows) {
            *misses = shadow.misses();
        }
        let next = match self.returns.kinds() {
            Kinds::Runs => best_of_runs(&misses, self.followed),
            Kinds::Prompts => best_of_prompts(&misses, self.slots),
        };
        if next != self.followed {
            self.followed = next;
            self.place_all();
        }
    }

    fn place_all(&mut self) {
        let blocks: Vec<BlockId> = self.places.keys().copied().collect();
        for block in blocks {
            self.place(block);
        }
    }

    /// Whether the followed rule holds the block, and its rank.
    fn place_of(&self, block: BlockId) -> (bool, Rank) {
        if self.followed == RETURNS {
            return (self.returns.holds(block), self.returns.rank(block));
        }
        let shadow = &self.shadows[self.followed];
        (shadow.holds(block), shadow.rank(block))
    }

    /// Puts a block, if it is resident, where the followed rule has it.
    fn place(&mut self, block: BlockId) {
        let after = self.place_of(block);
        let Some(place) = self.places.get_mut(&block) else {
            return;
        };
        self.order.remove(&(place.0, place.1, block));
        *place = after;
        self.order.insert((after.0, after.1, block));
    }
}

impl Policy for Value {
    fn name(&self) -> &'static str {
        "value"
    }

    fn entered(&mut self, block: BlockId) {
        let place = self.place_of(block);
        self.places.insert(block, place);
        self.order.insert((place.0, place.1, block));
        self.slots = self.slots.max(self.places.len());
        self.has_left = false;
        self.fresh.entered(block);
        self.count(block);
    }

    fn used(&mut self, block: BlockId) {
        if self.fresh.used(block) {
            self.count(block);
        }
    }

    fn prompt(&mut self, prompt: PromptId) {
        self.returns.prompt(prompt);
    }

    fn answered(&mut self, prompt: PromptId, tokens: u64) {
        self.returns.answered(prompt, tokens);
    }

    fn left(&mut self, block: BlockId) {
        self.fresh.left(block);
        if let Some((is_held, rank)) = self.places.remove(&block) {
            self.order.remove(&(is_held, rank, block));
        }
        if self.has_left {
            self.slots = (self.places.len() + 1).min(self.slots);
        }
        self.has_left = true;
    }

    fn victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
        let mut order = self.order.iter();
        order
            .find(|(.., block)| may(*block))
            .map(|(.., block)| *block)
    }
}

/// The rule to follow after this one.
fn best_of_runs(misses: &[f64; RETURNS + 1], followed: usize) -> usize {
    let steady = |index: usize| if index == STEADY { STEADY_SHARE } else { 1.0 };
    let best = (1..=RETURNS)
        .min_by(|&a, &b| (misses[a] * steady(a)).total_cmp(&(misses[b] * steady(b))))
        .expect("there are others");
    match followed {
        RECENCY if misses[best] < AHEAD * misses[RECENCY] => best,
        RECENCY => RECENCY,
        now if misses[RECENCY] < AHEAD * misses[now] => RECENCY,
        _ => best,
    }
}

/// `returns`, unless it has missed as often as there are frames, fewer being the chance of a few
/// prompts, and another rule is clearly ahead.
fn best_of_prompts(misses: &[f64; RETURNS + 1], slots: usize) -> usize {
    if misses[RETURNS] < slots as f64 {
        return RETURNS;
    }
    let is_ahead = |&index: &usize| {
        let share = if index == RECENCY { AHEAD } else { FAR_AHEAD };
        misses[index] < share * misses[RETURNS]
    };
    let ahead = (RECENCY..RETURNS).filter(is_ahead);
    let best = ahead.min_by(|&a, &b| misses[a].total_cmp(&misses[b]));
    best.unwrap_or(RETURNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_more_to_bring_back_stays() {
        let dear = BlockId::new(3);
        let mut policy = Value::weighted(move |block| if block == dear { 9.0 } else { 1.0 });
        // Frequency is ahead of recency in a scan through more than fits.
        for at in 0..4000 {
            let block = BlockId::new(at % 10);
            if policy.places.contains_key(&block) {
                policy.used(block);
                continue;
            }
            if policy.places.len() == 5 {
                let victim = policy.victim(&|_| true).expect("full");
                policy.left(victim);
            }
            policy.entered(block);
        }
        assert_ne!(policy.followed, RECENCY);
        assert!(policy.shadows[policy.followed].holds(dear));
        assert!(policy.places.contains_key(&dear));
    }

    #[test]
    fn told_of_prompts_returns_is_left_only_for_what_is_clearly_ahead() {
        let best = |misses| best_of_prompts(&misses, 1000);
        // Fewer misses than frames say nothing.
        assert_eq!(best([0.0, 0.0, 0.0, 999.0]), RETURNS);
        assert_eq!(best([1000.0, 910.0, 910.0, 1000.0]), RETURNS);
        assert_eq!(best([1000.0, 910.0, 890.0, 1000.0]), STEADY);
        assert_eq!(best([880.0, 910.0, 890.0, 1000.0]), RECENCY);
        // Nowhere more misses than the last used: a little ahead is enough.
        assert_eq!(best([980.0, 1000.0, 1000.0, 1000.0]), RECENCY);
        assert_eq!(best([990.0, 1000.0, 1000.0, 1000.0]), RETURNS);
        assert_eq!(Value::of_prompts().followed, RETURNS);
    }

    #[test]
    fn a_cache_that_shrinks_is_noticed() {
        let mut policy = Value::default();
        for at in 0..8 {
            policy.entered(BlockId::new(at));
        }
        assert_eq!(policy.slots, 8);
        for at in 0..5 {
            policy.left(BlockId::new(at));
        }
        assert_eq!(policy.slots, 4);
        policy.entered(BlockId::new(1));
        policy.used(BlockId::new(1));
        assert_eq!(policy.places.len(), 4);
        let last = policy.victim(&|block| block.index() == 7);
        assert_eq!(last, Some(BlockId::new(7)));
    }
}
