//! The optimum: drops what is used last, because it knows the future.
//!
//! Source: Belady, A study of replacement algorithms for a virtual-storage computer, 1966.

use super::Policy;
use crate::units::BlockId;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// See the module.
#[derive(Debug)]
pub struct Belady {
    /// Uses to come, by block.
    uses: HashMap<BlockId, VecDeque<usize>>,
    /// Resident blocks by their next use.
    order: BTreeSet<(usize, BlockId)>,
    next: HashMap<BlockId, usize>,
}

impl Belady {
    /// For blocks that will be used as `accesses` say, each told as used.
    pub fn new(accesses: &[BlockId]) -> Self {
        let mut uses: HashMap<BlockId, VecDeque<usize>> = HashMap::new();
        for (at, &block) in accesses.iter().enumerate() {
            uses.entry(block).or_default().push_back(at);
        }
        Self {
            uses,
            order: BTreeSet::new(),
            next: HashMap::new(),
        }
    }

    fn place(&mut self, block: BlockId) {
        let to_come = self.uses.get(&block).and_then(VecDeque::front);
        let next = to_come.copied().unwrap_or(usize::MAX);
        if let Some(before) = self.next.insert(block, next) {
            self.order.remove(&(before, block));
        }
        self.order.insert((next, block));
    }
}

impl Policy for Belady {
    fn name(&self) -> &'static str {
        "belady"
    }

    fn entered(&mut self, block: BlockId) {
        self.place(block);
    }

    fn used(&mut self, block: BlockId) {
        if let Some(uses) = self.uses.get_mut(&block) {
            uses.pop_front();
        }
        self.place(block);
    }

    fn left(&mut self, block: BlockId) {
        if let Some(next) = self.next.remove(&block) {
            self.order.remove(&(next, block));
        }
    }

    fn victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
        let mut last = self.order.iter().rev();
        last.find(|(_, block)| may(*block)).map(|(_, block)| *block)
    }
}
