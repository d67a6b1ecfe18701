//! Experts that come before the first request.

use super::ExpertCache;
use larder_pool::sys::slot::State;
use larder_pool::transfer::Class;
use larder_pool::units::BlockId;

impl ExpertCache {
    /// Asks for `experts`, those needed first before others, into the frames that are free, behind
    /// all that is due before `due`; says which. The first ones get the lowest frames, which a
    /// border that comes down takes last.
    pub fn begin_warm(&mut self, due: u64, experts: &[BlockId]) -> Vec<BlockId> {
        let now = std::mem::replace(&mut self.due, due);
        let mut asked = Vec::new();
        for &block in experts {
            if self.frames.iter().all(Option::is_some) {
                break;
            }
            if !self.is_at_hand(block) && self.ask(block, Class::Prefetch) {
                asked.push(block);
            }
        }
        self.due = now;
        asked
    }

    /// Takes note of what has come of `asked`, whose moves were given up, and says which.
    pub fn end_warm(&mut self, asked: &[BlockId]) -> Vec<BlockId> {
        let filling = asked.iter().copied();
        let filling = filling.filter(|&block| self.state(block) == State::Filling);
        let given_up: Vec<BlockId> = filling.collect();
        self.cancelled.extend(given_up);
        for &block in asked {
            self.settle(block);
            if self.state(block) == State::Absent {
                self.vacate(block);
            }
        }
        let here = asked.iter().copied();
        let here: Vec<BlockId> = here
            .filter(|&block| self.state(block) == State::Ready)
            .collect();
        // What is needed first is to leave last, though it came first.
        for &block in here.iter().rev() {
            self.moved[block.index() - self.first] = false;
            self.warm.insert(block);
            self.policy.used(block);
        }
        here
    }
}
