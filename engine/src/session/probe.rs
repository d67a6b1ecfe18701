//! Probes: what the paths and the memory carry, measured on the model's own bytes in the arena.
//!
//! A probe of the path is what decoding will ask of it: blocks that stream, or are missed, drawn
//! from all over the model because its places differ, one behind the other with the window always
//! full. It makes four passes of at most 64 MiB or 100 ms, into at most 32 MiB of the arena, used
//! over and over: a small hot buffer would overstate the link. The figure is the mean of the middle
//! two, so a hiccup of a few milliseconds does not make it.
//!
//! Something below the file system may keep what it has read: the host of a guest, the cache of a
//! disk array. Decoding reads the same blocks again and again, so the figure is of blocks that were
//! read before; how the first read went is told apart. Nothing of ours keeps them: reads go around
//! the page cache.

use crate::session::Session;
use larder_pool::sys::lease::ReadLease;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const PASS_BYTES: u64 = 64 << 20;
const PASS_TIME: Duration = Duration::from_millis(100);
const PASSES: u32 = 4;
const AREA_BYTES: u64 = 32 << 20;
/// Bytes of resident blocks that a probe of the memory reads.
const MEMORY_BYTES: u64 = 256 << 20;
/// Times that memory is probed by a process that has done nothing yet: its first tens of
/// milliseconds read slower than a run does.
const COLD_PROBES: usize = 5;

/// Which blocks a probe of the origin reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Before a run, twice.
    Before,
    /// Behind it: others, that only the run has read, as often as it does.
    Behind,
}

/// Bytes that had come home at some time of a probe.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Duration,
    bytes: u64,
}

impl Session {
    /// Bytes per second at which the origin brings blocks that a later [`Self::probe_paths`] will
    /// read again. Every weight leaves the arena.
    pub fn probe_first_read(&mut self) -> Result<f64, MoveError> {
        let blocks = self.probe_blocks(Sample::Before);
        self.stream(&blocks, None)
    }

    /// Bytes per second of every path into the fast tier, in the order of [`Session::inward`];
    /// `None` for a home whose limit says enough, or that has no room. Every weight leaves the
    /// arena.
    pub fn probe_paths(&mut self, sample: Sample) -> Result<Vec<Option<f64>>, MoveError> {
        let blocks = self.probe_blocks(sample);
        // Replicas are read from at once.
        let each = self.stream(&blocks, None)? / self.origins as f64;
        let mut rates = vec![Some(each); self.origins];
        for path in self.inward().into_iter().skip(self.origins) {
            let home = self
                .homes
                .list
                .iter()
                .position(|home| home.read == path.path);
            // Of a node that is not there nothing can be measured.
            let measured = home.filter(|&n| path.limit.is_none() && self.homes.answers(n));
            rates.push(match measured {
                Some(home) => self.probe_home(home)?,
                None => None,
            });
        }
        Ok(rates)
    }

    /// Blocks for all passes over the origin: as many as they read of those that do not stay, from
    /// even distances; of all, if all stay.
    fn probe_blocks(&self, sample: Sample) -> Vec<usize> {
        let mut wanted: Vec<usize> = self.layout.streamed().map(BlockId::index).collect();
        if wanted.is_empty() {
            wanted = (0..self.manifest.blocks.len()).collect();
        }
        let passes = self.probe_passes();
        let sizes = |index: &usize| self.manifest.blocks[*index].spec.extent_bytes();
        let whole: u64 = wanted.iter().map(sizes).sum();
        let share = (PASS_BYTES * u64::from(passes)) as f64 / whole.max(1) as f64;
        let count = (wanted.len() as f64 * share).ceil() as usize;
        spread(&wanted, count, sample)
    }

    /// As [`Self::probe_paths`], of home `n`: blocks are written there first, and freed again.
    fn probe_home(&mut self, n: usize) -> Result<Option<f64>, MoveError> {
        self.stager.clear()?;
        let (mut held, mut added, mut bytes) = (Vec::new(), Vec::new(), 0);
        for index in 0..self.manifest.blocks.len() {
            let block = BlockId::new(index as u32);
            let size = self.manifest.blocks[index].spec.extent_bytes();
            if bytes + size > AREA_BYTES {
                break;
            }
            match self.homes.of(block) {
                Some(home) if home == n => held.push(index),
                Some(_) => continue,
                None if self.send_home(n, index)? => added.push(index),
                None => break,
            }
            bytes += size;
        }
        held.extend(&added);
        let rate = if held.is_empty() {
            None
        } else {
            Some(self.stream(&held, Some(n))?)
        };
        for index in added {
            self.homes.free(BlockId::new(index as u32));
        }
        Ok(rate)
    }

    /// Reads a block from the origin and writes it to home `n`; `false` if there is no room.
    fn send_home(&mut self, n: usize, index: usize) -> Result<bool, MoveError> {
        let block = BlockId::new(index as u32);
        let bytes = self.manifest.blocks[index].spec.extent_bytes();
        let Some(extent) = self.space.alloc_low(bytes) else {
            return Ok(false);
        };
        self.stager.supply().fetch(block, Class::Demand, 0, extent);
        let lease = self.mover.wait(slot_of(block))?;
        let is_taken = self.homes.store_at(n, block, &lease, bytes);
        drop(lease);
        if is_taken {
            self.homes.wait(block)?;
        }
        drop(self.table.evict(slot_of(block)));
        self.probed[0] += bytes;
        self.probed[self.homes.list[n].write.index()] += bytes;
        Ok(is_taken)
    }

    /// Where there is a limit, one pass shows whether it is reached.
    fn probe_passes(&self) -> u32 {
        let has_limit = self.resolved.origin_limit.is_some();
        if has_limit { 1 } else { PASSES }
    }

    /// Bytes per second at which `blocks` come from home `n`, or from the origin.
    fn stream(&mut self, blocks: &[usize], n: Option<usize>) -> Result<f64, MoveError> {
        self.stager.clear()?;
        let start = Instant::now();
        let (mut read, mut waiting, mut marks) = (0, VecDeque::new(), Vec::new());
        let (mut in_area, mut next) = (0, 0);
        let longest = PASS_TIME * self.probe_passes();
        loop {
            let more = blocks.get(next).filter(|_| start.elapsed() < longest);
            let room = more.and_then(|&index| {
                let bytes = self.manifest.blocks[index].spec.extent_bytes();
                let fits = in_area + bytes <= AREA_BYTES;
                let extent = fits.then(|| self.space.alloc_low(bytes)).flatten()?;
                Some((index, bytes, extent))
            });
            let Some((index, bytes, extent)) = room else {
                let Some(oldest) = waiting.pop_front() else {
                    break;
                };
                in_area -= self.probe_wait(oldest, &mut read)?;
                let at = start.elapsed();
                marks.push(Mark { at, bytes: read });
                continue;
            };
            let (block, due) = (BlockId::new(index as u32), next as u64);
            match n {
                Some(_) => self.homes.fetch(block, Class::Prefetch, due, extent),
                None => self
                    .stager
                    .supply()
                    .fetch_origin(block, Class::Prefetch, due, extent),
            }
            waiting.push_back(index);
            (in_area, next) = (in_area + bytes, next + 1);
        }
        let path = n.map_or(0, |n| self.homes.list[n].read.index());
        self.probed[path] += read;
        Ok(rate(&marks))
    }

    fn probe_wait(&self, index: usize, read: &mut u64) -> Result<u64, MoveError> {
        let slot = slot_of(BlockId::new(index as u32));
        drop(self.mover.wait(slot)?);
        drop(self.table.evict(slot));
        let bytes = self.manifest.blocks[index].spec.extent_bytes();
        *read += bytes;
        Ok(bytes)
    }

    /// As [`Self::probe_memory`] before anything is resident: blocks come from the origin for it,
    /// and leave.
    pub fn probe_memory_cold(&mut self) -> Result<Option<f64>, MoveError> {
        self.stager.clear()?;
        let (mut asked, mut bytes, mut read) = (Vec::new(), 0, 0);
        for (index, block) in self.manifest.blocks.iter().enumerate() {
            let size = block.spec.extent_bytes();
            let extent = (bytes + size <= MEMORY_BYTES)
                .then(|| self.space.alloc_low(size))
                .flatten();
            let Some(extent) = extent else { break };
            let (id, due) = (BlockId::new(index as u32), index as u64);
            self.stager
                .supply()
                .fetch_origin(id, Class::Prefetch, due, extent);
            bytes += size;
            asked.push(index);
        }
        for &index in &asked {
            drop(self.mover.wait(slot_of(BlockId::new(index as u32)))?);
        }
        let rates = (0..COLD_PROBES).filter_map(|_| self.probe_memory());
        let rate = rates.reduce(f64::max);
        for index in asked {
            self.probe_wait(index, &mut read)?;
        }
        self.probed[0] += read;
        Ok(rate)
    }

    /// Bytes per second at which the backend reads the blocks that are resident now; `None` if
    /// they are too few to tell.
    pub fn probe_memory(&mut self) -> Option<f64> {
        let (mut bytes, mut leases) = (0, Vec::<ReadLease>::new());
        for (index, block) in self.manifest.blocks.iter().enumerate() {
            if bytes >= MEMORY_BYTES {
                break;
            }
            if let Some(lease) = self.table.pin(slot_of(BlockId::new(index as u32))) {
                bytes += block.spec.data_bytes();
                leases.push(lease);
            }
        }
        if bytes < AREA_BYTES {
            None
        } else {
            Some(self.backend.read_probe(&leases))
        }
    }
}

/// `count` of `all`, or all of them, at even distances; samples lie between each other.
fn spread(all: &[usize], count: usize, sample: Sample) -> Vec<usize> {
    let count = count.min(all.len());
    let shift = usize::from(sample == Sample::Behind);
    let place = |at: usize| (2 * at + shift) * all.len() / (2 * count);
    (0..count).map(|at| all[place(at)]).collect()
}

/// Bytes per second of the middle passes. The link runs full from when the first block is home to
/// the last one: what it took to start is left out.
fn rate(marks: &[Mark]) -> f64 {
    let per_second = |from: Mark, to: Mark| {
        let seconds = to.at.saturating_sub(from.at).as_secs_f64();
        (to.bytes - from.bytes) as f64 / seconds.max(1e-9)
    };
    let (Some(&first), Some(&last)) = (marks.first(), marks.last()) else {
        return 0.0;
    };
    let mut passes = Vec::new();
    let mut begin = first;
    for &mark in marks {
        if mark.bytes - begin.bytes >= PASS_BYTES || mark.at >= begin.at + PASS_TIME {
            passes.push(per_second(begin, mark));
            begin = mark;
        }
    }
    passes.sort_by(f64::total_cmp);
    match passes.len() {
        0 if last.at > first.at => per_second(first, last),
        0 => last.bytes as f64 / last.at.as_secs_f64(),
        count => f64::midpoint(passes[(count - 1) / 2], passes[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks after every 16 MiB, which took so many milliseconds each.
    fn marks(times: &[u64]) -> Vec<Mark> {
        let mut at = Duration::ZERO;
        let blocks = times.iter().enumerate().map(|(index, &ms)| {
            at += Duration::from_millis(ms);
            let bytes = (index as u64 + 1) << 24;
            Mark { at, bytes }
        });
        blocks.collect()
    }

    fn is_near(found: f64, mib_per_ms: f64) -> bool {
        let wanted = mib_per_ms * f64::from(1 << 20) * 1e3;
        (found / wanted - 1.0).abs() < 1e-9
    }

    #[test]
    fn the_start_and_a_hiccup_do_not_count() {
        let mut times = vec![90];
        times.extend([4; 16]);
        assert!(is_near(rate(&marks(&times)), 4.0));
        times[6] = 300;
        assert!(is_near(rate(&marks(&times)), 4.0));
    }

    #[test]
    fn a_link_that_changes_is_taken_in_the_middle() {
        let times: Vec<u64> = [[1; 4], [2; 4], [4; 4], [8; 4]].concat();
        let times = [&[1], times.as_slice()].concat();
        assert!(is_near(rate(&marks(&times)), 6.0));
    }

    #[test]
    fn few_blocks_are_a_figure_too() {
        assert!(is_near(rate(&marks(&[8, 4])), 4.0));
        assert!(is_near(rate(&marks(&[8])), 2.0));
        assert!(is_near(rate(&marks(&[400, 200, 800, 400])), 0.04));
        assert_eq!(rate(&[]), 0.0);
        // Both were home when somebody looked.
        let together = [1, 2].map(|bytes| Mark {
            at: Duration::from_secs(1),
            bytes,
        });
        assert!((rate(&together) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_sample_reaches_over_all_blocks_once() {
        let all: Vec<usize> = (10..30).collect();
        assert_eq!(spread(&all, 4, Sample::Before), [10, 15, 20, 25]);
        assert_eq!(spread(&all, 4, Sample::Behind), [12, 17, 22, 27]);
        for sample in [Sample::Before, Sample::Behind] {
            assert_eq!(spread(&all, 100, sample), all);
            assert!(spread(&all, 0, sample).is_empty() && spread(&[], 5, sample).is_empty());
        }
    }
}
