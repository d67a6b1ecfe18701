//! What is on its way from each place, and where a block would come from sooner.
//!
//! Blocks are dealt out by what the links carry when they are probed. In a run a link may carry
//! less than that, and then all the others would wait for it; so a block that two places have comes
//! from the one whose queue is shorter in time.

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

    /// A block of `bytes` that home `n` and the origin have would be here from home first, or at
    /// the same time.
    pub(super) fn home_is_sooner(&self, table: &SlotTable, n: usize, bytes: u64) -> bool {
        let mut asked = self.asked.lock();
        forget_here(&mut asked, table);
        let seconds = |from: From| {
            let ahead = asked.iter().filter(|&&(_, of, _)| of == from);
            let ahead: u64 = ahead.map(|(.., bytes)| bytes).sum();
            (ahead + bytes) as f64 / self.rate(from)
        };
        seconds(From::Home(n)) <= seconds(From::Origin)
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
    fn the_shorter_queue_in_time_is_taken() {
        let table = block_table(8);
        let space = Space::counted(8 * GRANULE);
        let queues = Queues::new(100.0, &[300.0]);
        let on_way = |block: u32, from, bytes| {
            let block = BlockId::new(block);
            let extent = space.alloc_low(GRANULE).expect("room");
            queues.note(&table, block, from, bytes);
            table.begin_fill(slot_of(block), extent).expect("absent")
        };
        assert!(queues.home_is_sooner(&table, 0, 60));
        let first = on_way(0, From::Home(0), 60);
        assert!(queues.home_is_sooner(&table, 0, 60));
        let second = on_way(1, From::Home(0), 90);
        // 0.7 s from home, 0.6 s from the origin, until something waits there too.
        assert!(!queues.home_is_sooner(&table, 0, 60));
        let third = on_way(2, From::Origin, 30);
        assert!(queues.home_is_sooner(&table, 0, 60));
        drop(third);
        assert!(!queues.home_is_sooner(&table, 0, 60));
        // What has come does not count.
        drop((first, second));
        assert!(queues.home_is_sooner(&table, 0, 60));
    }
}
