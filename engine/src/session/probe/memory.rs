//! How fast memory is read, by the threads that compute.
//!
//! A limit is what it does at its best, which a plan must not expect all the time: memory of a
//! shared host changes its speed from one millisecond to the next. A process that has done nothing
//! yet reads a fifth slower in its first tens of milliseconds.
//!
//! Passes read one set of blocks after the other, as steps do, and all of them before the first
//! again: of 256 MiB that are read again and again, a last-level cache of 32 MiB keeps a part, and
//! the limit would be 7 % more than memory gives; of 512 MiB, where two such caches are, 4 % more
//! than of all.

use crate::session::Session;
use larder_pool::sys::lease::ReadLease;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::time::{Duration, Instant};

/// Bytes that one pass of a probe of the memory reads, at least and at most.
const PASS_LEAST: u64 = 32 << 20;
const PASS_MOST: u64 = 256 << 20;
/// Passes of a probe, of which the best one counts as the limit.
const PASSES: usize = 5;
/// What is brought for a probe of a cold process: so much at once, until this time is over, or
/// there is enough.
const COLD_BYTES: u64 = 1 << 30;
const COLD_TIME: Duration = Duration::from_millis(300);
/// What a cold process reads before it is probed, and for how long it is.
const WARMING: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(150);

/// Bytes per second at which memory is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemorySpeed {
    /// In the best of five passes.
    pub best: f64,
    /// In the middle one of all passes.
    pub usual: f64,
}

impl MemorySpeed {
    /// Of the passes of a probe; `None` of none.
    fn of(mut passes: Vec<f64>) -> Option<Self> {
        let last = &passes[passes.len().saturating_sub(PASSES)..];
        let best = last.iter().copied().reduce(f64::max)?;
        passes.sort_by(f64::total_cmp);
        let usual = f64::midpoint(passes[(passes.len() - 1) / 2], passes[passes.len() / 2]);
        Some(Self { best, usual })
    }
}

impl Session {
    /// How fast the backend reads the blocks that are resident now; `None` if they are too few to
    /// tell.
    pub fn probe_memory(&mut self) -> Option<MemorySpeed> {
        let sets = self.resident()?;
        let sets = sets.iter().cycle().take(PASSES);
        let passes = sets.map(|set| self.backend.read_probe(set));
        MemorySpeed::of(passes.collect())
    }

    /// As [`Self::probe_memory`] before anything is resident: blocks come from the origin for it,
    /// and leave.
    pub fn probe_memory_cold(&mut self) -> Result<Option<MemorySpeed>, MoveError> {
        self.stager.clear()?;
        let start = Instant::now();
        let (mut fetched, mut bytes) = (Vec::new(), 0);
        let mut blocks = self.all_blocks();
        while bytes < COLD_BYTES && start.elapsed() < COLD_TIME {
            let before = fetched.len();
            let more = self.bring_some(&mut blocks, &mut fetched)?;
            if more == 0 {
                break;
            }
            bytes += more;
            for &block in &fetched[before..] {
                drop(self.mover.wait(slot_of(block))?);
            }
        }
        let mut passes = Vec::new();
        if let Some(sets) = self.resident() {
            let start = Instant::now();
            for set in sets.iter().cycle() {
                let rate = self.backend.read_probe(set);
                if start.elapsed() >= WARMING {
                    passes.push(rate);
                }
                if !passes.is_empty() && start.elapsed() >= WARMING + LONG {
                    break;
                }
            }
        }
        for block in fetched {
            self.probed[0] += self.reader(1).take(block)?;
        }
        // Those that were read in place.
        self.stager.clear()?;
        Ok(MemorySpeed::of(passes))
    }

    /// Places the next of `blocks`, or asks for them, as many as one pass reads; their bytes.
    fn bring_some(
        &self,
        blocks: &mut impl Iterator<Item = BlockId>,
        fetched: &mut Vec<BlockId>,
    ) -> Result<u64, MoveError> {
        let supply = self.stager.supply();
        let mut bytes = 0;
        while bytes < PASS_MOST
            && let Some(block) = blocks.next()
        {
            let size = supply.bytes(block);
            if supply.is_placed() && !self.layout.stays_at_first(block) {
                supply.place(block)?;
            } else {
                let Some(extent) = self.space.alloc_low(size) else {
                    break;
                };
                let due = fetched.len() as u64;
                supply.fetch_origin(block, Class::Prefetch, due, extent);
                fetched.push(block);
            }
            bytes += size;
        }
        Ok(bytes)
    }

    /// Sets of blocks that passes of a probe read, one after the other.
    fn resident(&self) -> Option<Vec<Vec<ReadLease>>> {
        let (mut bytes, mut found) = (0, Vec::new());
        for (block, kept) in self.all_blocks().zip(&self.manifest.blocks) {
            if bytes >= PASSES as u64 * PASS_MOST {
                break;
            }
            if let Some(lease) = self.table.pin(slot_of(block)) {
                bytes += kept.spec.data_bytes();
                found.push((lease, kept.spec.data_bytes()));
            }
        }
        let sizes: Vec<u64> = found.iter().map(|(_, bytes)| *bytes).collect();
        let mut found = found.into_iter().map(|(lease, _)| lease);
        let mut sets = Vec::new();
        for count in passes(&sizes) {
            sets.push(found.by_ref().take(count).collect());
        }
        (!sets.is_empty()).then_some(sets)
    }
}

/// Cuts blocks of `sizes` into passes of about as many bytes each: how many blocks each has. None
/// if they are too few for one. Shorter passes would find shorter peaks.
fn passes(sizes: &[u64]) -> Vec<usize> {
    let total: u64 = sizes.iter().sum();
    let count = total.div_ceil(PASS_MOST).max(2).min(total / PASS_LEAST);
    let (mut counts, mut bytes, mut begun) = (Vec::new(), 0, 0);
    for (i, size) in sizes.iter().enumerate() {
        bytes += size;
        let passes = counts.len() as u64;
        if passes < count && bytes * count >= total * (passes + 1) {
            counts.push(i + 1 - begun);
            begun = i + 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_alike_and_have_all_blocks() {
        const MIB: u64 = 1 << 20;
        assert!(passes(&[]).is_empty());
        assert!(passes(&[PASS_LEAST - 1]).is_empty());
        assert_eq!(passes(&[PASS_LEAST]), [1]);
        assert_eq!(passes(&[16 * MIB; 4]), [2, 2]);
        for (blocks, size, count) in [(174, 4 * MIB, 3), (33, 31 * MIB, 4), (3, 300 * MIB, 3)] {
            let passes = passes(&vec![size; blocks]);
            assert_eq!(
                (passes.len(), passes.iter().sum::<usize>()),
                (count, blocks)
            );
            let (least, most) = (passes.iter().min(), passes.iter().max());
            let most_more = most.zip(least).map(|(most, least)| most - least);
            assert!(most_more <= Some(1), "{passes:?}");
        }
    }
}
