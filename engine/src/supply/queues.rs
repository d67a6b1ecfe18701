//! What is on its way from each place, and where a block would come from sooner.
//!
//! Blocks are dealt out by what the links carry when they are probed. In a run a link may carry
//! less than that, and then all the others would wait for it; so a block of a home comes from the
//! origin if it would be here before home has begun with it. A link that has nothing to do is never
//! passed over, however slow it is: what it brings meanwhile no other has to.

use larder_pool::sys::lease::SlotTable;
use larder_pool::sys::slot::State;
use larder_pool::table::slot_of;
use larder_pool::units::BlockId;
use parking_lot::Mutex;

/// Where blocks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Origin,
    Home(usize),
}

/// A block, where it comes from, and its bytes.
type Asked = (BlockId, From, u64);

/// See the module.
#[derive(Debug)]
pub(super) struct Queues {
    /// Blocks that were asked for, and had not come when somebody looked.
    asked: Mutex<Vec<Asked>>,
    /// Bytes per second of all origins, and of each home, while all are read.
    origin: f64,
    homes: Vec<f64>,
}

impl Queues {
    pub(super) fn new(origin: f64, homes: &[f64]) -> Self {
        Self {
            asked: Mutex::default(),
            origin,
            homes: homes.to_vec(),
        }
    }

    fn rate(&self, from: From) -> f64 {
        match from {
            From::Origin => self.origin,
            From::Home(n) => self.homes.get(n).copied().unwrap_or(0.0),
        }
    }

    /// A block of `bytes` is asked for.
    pub(super) fn note(&self, table: &SlotTable, block: BlockId, from: From, bytes: u64) {
        if self.homes.is_empty() {
            return;
        }
        let mut asked = self.asked.lock();
        forget_here(&mut asked, table);
        asked.push((block, from, bytes));
    }

    /// Home `n` would begin with a block of `bytes` before the origin could have brought it.
    pub(super) fn home_is_sooner(&self, table: &SlotTable, n: usize, bytes: u64) -> bool {
        let mut asked = self.asked.lock();
        forget_here(&mut asked, table);
        let seconds = |from: From, more: u64| {
            let ahead = asked.iter().filter(|&&(_, of, _)| of == from);
            let ahead: u64 = ahead.map(|(.., bytes)| bytes).sum();
            (ahead + more) as f64 / self.rate(from)
        };
        seconds(From::Home(n), 0) <= seconds(From::Origin, bytes)
    }
}

/// Blocks that have come are on no queue.
fn forget_here(asked: &mut Vec<Asked>, table: &SlotTable) {
    asked.retain(|&(block, ..)| table.state(slot_of(block)) == State::Filling);
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_pool::sys::space::{GRANULE, Space};
    use larder_pool::table::block_table;

    #[test]
    fn a_home_with_nothing_to_do_is_used_and_one_that_is_behind_is_not() {
        let table = block_table(8);
        let space = Space::counted(8 * GRANULE);
        let queues = Queues::new(100.0, &[30.0]);
        let on_way = |block: u32, from, bytes| {
            let block = BlockId::new(block);
            let extent = space.alloc_low(GRANULE).expect("room");
            queues.note(&table, block, from, bytes);
            table.begin_fill(slot_of(block), extent).expect("absent")
        };
        // 2 s from home, 0.6 s from the origin; but home begins at once.
        assert!(queues.home_is_sooner(&table, 0, 60));
        let first = on_way(0, From::Home(0), 30);
        // Home would begin in 1 s.
        assert!(!queues.home_is_sooner(&table, 0, 60));
        assert!(queues.home_is_sooner(&table, 0, 100));
        let second = on_way(1, From::Origin, 40);
        assert!(queues.home_is_sooner(&table, 0, 60));
        drop(second);
        assert!(!queues.home_is_sooner(&table, 0, 60));
        // What has come does not count.
        drop(first);
        assert!(queues.home_is_sooner(&table, 0, 60));
    }
}
