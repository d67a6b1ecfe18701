//! How fast memory is read, by the threads that compute.
//!
//! A limit is what it does at its best, which a plan must not expect all the time: memory of a
//! shared host changes its speed from one millisecond to the next. A process that has done nothing
//! yet reads a fifth slower in its first tens of milliseconds.

use super::AREA_BYTES;
use crate::session::Session;
use larder_pool::sys::lease::ReadLease;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use std::time::{Duration, Instant};

/// Bytes of resident blocks that a probe of the memory reads.
const MEMORY_BYTES: u64 = 256 << 20;
/// Passes of a probe, of which the best one counts as the limit.
const PASSES: usize = 5;
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
        let leases = self.resident()?;
        let passes = (0..PASSES).map(|_| self.backend.read_probe(&leases));
        MemorySpeed::of(passes.collect())
    }

    /// As [`Self::probe_memory`] before anything is resident: blocks come from the origin for it,
    /// and leave.
    pub fn probe_memory_cold(&mut self) -> Result<Option<MemorySpeed>, MoveError> {
        self.stager.clear()?;
        let (mut asked, mut bytes) = (Vec::new(), 0);
        for block in self.all_blocks() {
            let supply = self.stager.supply();
            let size = supply.bytes(block);
            if bytes + size > MEMORY_BYTES {
                break;
            }
            if supply.is_placed() && !self.layout.stays_at_first(block) {
                supply.place(block)?;
            } else {
                let Some(extent) = self.space.alloc_low(size) else {
                    break;
                };
                let due = asked.len() as u64;
                supply.fetch_origin(block, Class::Prefetch, due, extent);
                asked.push(block);
            }
            bytes += size;
        }
        for &block in &asked {
            drop(self.mover.wait(slot_of(block))?);
        }
        let mut passes = Vec::new();
        if let Some(leases) = self.resident() {
            let start = Instant::now();
            while passes.is_empty() || start.elapsed() < WARMING + LONG {
                let rate = self.backend.read_probe(&leases);
                if start.elapsed() >= WARMING {
                    passes.push(rate);
                }
            }
        }
        for block in asked {
            self.probed[0] += self.reader(1).take(block)?;
        }
        // Those that were read in place.
        self.stager.clear()?;
        Ok(MemorySpeed::of(passes))
    }

    /// Blocks that a probe reads.
    fn resident(&self) -> Option<Vec<ReadLease>> {
        let (mut bytes, mut leases) = (0, Vec::new());
        for (block, kept) in self.all_blocks().zip(&self.manifest.blocks) {
            if bytes >= MEMORY_BYTES {
                break;
            }
            if let Some(lease) = self.table.pin(slot_of(block)) {
                bytes += kept.spec.data_bytes();
                leases.push(lease);
            }
        }
        (bytes >= AREA_BYTES).then_some(leases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_the_best_of_the_last_and_usual_is_the_middle_of_all() {
        let speed = MemorySpeed::of(vec![9.0, 1.0, 5.0, 6.0, 4.0, 7.0]);
        let found = speed.map(|speed| (speed.best, speed.usual));
        assert_eq!(found, Some((7.0, 5.5)));
        let speed = MemorySpeed::of(vec![2.0]);
        assert_eq!(
            speed.map(|speed| (speed.best, speed.usual)),
            Some((2.0, 2.0))
        );
        assert_eq!(MemorySpeed::of(Vec::new()), None);
    }
}
