//! Units of work in order, cut into one stretch for each thread.
//!
//! A thread takes its stretch from the front: weights that follow each other are one stream of
//! memory, and what it takes next is known. Every jump to other memory costs about a microsecond,
//! in which the prefetchers of the CPU learn the new stream: threads that took the next task of a
//! common list lost 3 % of a token of Q4_K in memory to it. Who has nothing left takes the far half
//! of what another one has.

use crate::pool::Padded;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Share of what a thread has left that it takes at once: others can have the rest. To take every
/// 64 KiB of F16 from it alone costs 1 %.
const SHARE: usize = 4;

/// See the module. Nothing is published by it: the pool orders what threads write.
pub(crate) struct Shares {
    /// First unit and end of what is left, packed.
    stretches: Vec<Padded<AtomicU64>>,
}

/// Units that a thread took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) units: Range<usize>,
    /// The unit behind them comes next, unless another thread takes it.
    pub(crate) goes_on: bool,
}

fn pack(units: &Range<usize>) -> u64 {
    (units.start as u64) << 32 | units.end as u64
}

fn unpack(packed: u64) -> Range<usize> {
    (packed >> 32) as usize..(packed & u64::from(u32::MAX)) as usize
}

impl Shares {
    /// One stretch for each of `ends`, from unit 0 on; fewer than 2^32 units.
    pub(crate) fn new(ends: impl Iterator<Item = usize>) -> Self {
        let mut start = 0;
        let stretch = |end| {
            assert!(u32::try_from(end).is_ok(), "{end} units of work");
            let packed = pack(&(start..end));
            start = end;
            Padded(AtomicU64::new(packed))
        };
        Self {
            stretches: ends.map(stretch).collect(),
        }
    }

    /// The next units for the thread of stretch `mine`; `None` once all are taken.
    pub(crate) fn take(&self, mine: usize) -> Option<Taken> {
        let some = |left: usize| 0..(left / SHARE).max(1);
        loop {
            if let Some((units, left)) = self.cut(mine, some) {
                return Some(Taken {
                    goes_on: units.end < left.end,
                    units,
                });
            }
            let count = self.stretches.len();
            let half = |left: usize| left / 2..left;
            let (units, _) = (1..count).find_map(|step| self.cut((mine + step) % count, half))?;
            // Nobody else writes to a stretch of which nothing is left.
            self.stretches[mine].store(pack(&units), Ordering::Relaxed);
        }
    }

    /// Takes the part of a stretch, front or back, that `part` tells for a number of units; and
    /// what was left before. `None` if nothing was.
    fn cut(
        &self,
        index: usize,
        part: impl Fn(usize) -> Range<usize>,
    ) -> Option<(Range<usize>, Range<usize>)> {
        let stretch = &self.stretches[index];
        let mut packed = stretch.load(Ordering::Relaxed);
        loop {
            let left = unpack(packed);
            if left.is_empty() {
                return None;
            }
            let part = part(left.len());
            let units = left.start + part.start..left.start + part.end;
            let rest = if part.start == 0 {
                units.end..left.end
            } else {
                left.start..units.start
            };
            let swapped = stretch.compare_exchange_weak(
                packed,
                pack(&rest),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Some((units, left)),
                Err(now) => packed = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_thread_goes_through_its_own_and_then_takes_from_the_end_of_others() {
        let shares = Shares::new([8, 16].into_iter());
        let mut taken = Vec::new();
        while let Some(Taken { units, goes_on }) = shares.take(0) {
            taken.push((units, goes_on));
        }
        let own = [0..2, 2..3, 3..4, 4..5, 5..6, 6..7, 7..8];
        for (i, own) in own.into_iter().enumerate() {
            assert_eq!(taken[i], (own, i < 6));
        }
        assert_eq!(taken[7], (12..13, true));
        assert_eq!(taken.last(), Some(&(8..9, false)));
        let count = |(units, _): &(Range<usize>, bool)| units.len();
        assert_eq!(taken.iter().map(count).sum::<usize>(), 16);
        assert_eq!(shares.take(1), None);
    }

    #[test]
    fn every_unit_is_taken_once() {
        for threads in 1..=4 {
            for units in [0, 1, 3, 100, 5000] {
                let ends = (1..=threads).map(|thread| units * thread / threads);
                let shares = Shares::new(ends);
                let all = Mutex::new(Vec::new());
                std::thread::scope(|scope| {
                    // One stretch is left to the others.
                    for mine in 1.min(threads - 1)..threads {
                        let (shares, all) = (&shares, &all);
                        scope.spawn(move || {
                            let mut found = Vec::new();
                            while let Some(taken) = shares.take(mine) {
                                found.extend(taken.units);
                            }
                            all.lock().expect("no panic").extend(found);
                        });
                    }
                });
                let mut all = all.into_inner().expect("no panic");
                all.sort_unstable();
                assert_eq!(all, (0..units).collect::<Vec<_>>());
            }
        }
    }
}
