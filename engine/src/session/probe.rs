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

mod load;
mod marks;
mod memory;
mod reader;

pub use memory::MemorySpeed;

use crate::session::{Inward, Session, SessionError};
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use load::Load;
use marks::{rate, rates_at_once};
use reader::{Reader, Way};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const PASS_BYTES: u64 = 64 << 20;
const PASS_TIME: Duration = Duration::from_millis(100);
const PASSES: u32 = 4;
const AREA_BYTES: u64 = 32 << 20;
/// A home that is slow to write is probed on what it took until then.
const FURNISH_TIME: Duration = Duration::from_millis(500);

/// Which blocks a probe of the origin reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Before a run, twice.
    Before,
    /// Behind it: others, that only the run has read, as often as it does.
    Behind,
}

/// Bytes per second of the paths into the fast tier, in the order of [`Session::inward`]; empty
/// where nothing was probed.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// Of each by itself; `None` for a home whose limit says enough, or that has no room.
    pub alone: Vec<Option<f64>>,
    /// Of each while the others were read too; `None` where there is no other, and for a home whose
    /// limit says enough.
    pub at_once: Vec<Option<f64>>,
    /// Of the origin, when the blocks of the probe were read first.
    pub first: Option<f64>,
    /// Share of the host's processors that was busy meanwhile.
    pub load: Option<f64>,
}

impl Carried {
    /// Of path `n` beside the others, as far as that is known.
    pub fn of(&self, n: usize) -> Option<f64> {
        let of = |rates: &[Option<f64>]| rates.get(n).copied().flatten();
        of(&self.at_once).or_else(|| of(&self.alone))
    }

    pub const fn is_empty(&self) -> bool {
        self.alone.is_empty()
    }
}

impl Session {
    /// What every path into the fast tier carries. Every weight leaves the arena.
    pub fn probe_paths(&mut self, sample: Sample) -> Result<Carried, SessionError> {
        let inward = self.inward();
        let blocks = self.probe_blocks(sample);
        let mut load = Load::default();
        let is_new = sample == Sample::Before;
        let first = is_new.then(|| load.during(|| self.stream(&blocks, None)));
        let first = first.transpose()?;
        // Replicas are read from at once.
        let each = load.during(|| self.stream(&blocks, None))? / self.origins as f64;
        let mut alone = vec![Some(each); self.origins];
        // One with a limit takes of processors and memory what it carries, like any other.
        let mut ways = vec![Way::new(None, blocks)];
        for path in inward.iter().skip(self.origins) {
            let way = self.furnish(path, sample)?;
            let rate = way.as_ref().map(|way| self.stream(&way.blocks, way.home));
            alone.push(rate.transpose()?);
            ways.extend(way);
        }
        let at_once = match ways.len() {
            0 | 1 => Vec::new(),
            _ => {
                load = Load::default();
                self.probe_at_once(&mut ways, &inward, &mut load)?
            }
        };
        for block in ways.into_iter().flat_map(|way| way.added) {
            self.homes.free(block);
        }
        Ok(Carried {
            alone,
            at_once,
            first,
            load: load.share(),
        })
    }

    /// The home that `path` leads from.
    pub(super) fn home_of(&self, path: &Inward) -> Option<usize> {
        let mut homes = self.homes.list.iter();
        homes.position(|home| home.read == path.path)
    }

    /// What each of `inward` carries while all of `ways` are read.
    fn probe_at_once(
        &mut self,
        ways: &mut [Way],
        inward: &[Inward],
        load: &mut Load,
    ) -> Result<Vec<Option<f64>>, SessionError> {
        part(ways);
        self.stager.clear()?;
        let brought = load.during(|| self.reader(ways.len()).read_at_once(ways))?;
        for (way, brought) in ways.iter().zip(&brought) {
            self.note_probed(way.home, brought.bytes());
        }
        let mut rates = vec![None; inward.len()];
        for (way, rate) in ways
            .iter()
            .zip(rates_at_once(&brought).into_iter().flatten())
        {
            if way.home.is_none() {
                rates[..self.origins].fill(Some(rate / self.origins as f64));
                continue;
            }
            let place = inward
                .iter()
                .position(|path| self.home_of(path) == way.home);
            rates[place.expect("its path was measured alone")] = Some(rate);
        }
        Ok(rates)
    }

    fn reader(&self, count: usize) -> Reader<'_> {
        Reader {
            space: &self.space,
            supply: self.stager.supply(),
            homes: &self.homes,
            area: AREA_BYTES.min(self.space.largest_hole() / count as u64),
            start: Instant::now(),
        }
    }

    fn note_probed(&mut self, home: Option<usize>, read: u64) {
        let path = home.map_or(0, |n| self.homes.list[n].read.index());
        self.probed[path] += read;
    }

    /// Blocks for all passes over the origin: as many as they read of those that do not stay, from
    /// even distances; of all, if all stay.
    fn probe_blocks(&self, sample: Sample) -> Vec<BlockId> {
        let mut wanted: Vec<BlockId> = self.layout.streamed().collect();
        if wanted.is_empty() {
            wanted = self.all_blocks().collect();
        }
        self.sample(&wanted, PASS_BYTES * u64::from(self.probe_passes()), sample)
    }

    fn all_blocks(&self) -> impl Iterator<Item = BlockId> + use<> {
        (0..self.manifest.blocks.len()).map(|index| BlockId::new(index as u32))
    }

    /// About `bytes` of `blocks`, at even distances.
    fn sample(&self, blocks: &[BlockId], bytes: u64, sample: Sample) -> Vec<BlockId> {
        let supply = self.stager.supply();
        let whole: u64 = blocks.iter().map(|&block| supply.bytes(block)).sum();
        let share = bytes as f64 / whole.max(1) as f64;
        let count = (blocks.len() as f64 * share).ceil() as usize;
        spread(blocks, count, sample)
    }

    /// Blocks for a path from a home, as many as a pass reads, brought there first if need be.
    /// `None` of what a limit says enough of, or a node that is not there, or has no room.
    fn furnish(&mut self, path: &Inward, sample: Sample) -> Result<Option<Way>, MoveError> {
        let home = self.home_of(path);
        let measured = home.filter(|&n| path.limit.is_none() && self.homes.answers(n));
        let Some(n) = measured else { return Ok(None) };
        self.stager.clear()?;
        let held: Vec<BlockId> = self
            .all_blocks()
            .filter(|&block| self.homes.readable(block) == Some(n))
            .collect();
        let mut blocks = self.sample(&held, PASS_BYTES, sample);
        let sizes = blocks.iter().map(|&b| self.stager.supply().bytes(b));
        let (mut bytes, mut added) = (sizes.sum::<u64>(), Vec::new());
        let start = Instant::now();
        for block in self.all_blocks() {
            if bytes >= PASS_BYTES || start.elapsed() >= FURNISH_TIME {
                break;
            }
            let size = self.stager.supply().bytes(block);
            if size > AREA_BYTES || self.homes.of(block).is_some() {
                continue;
            }
            if !self.send_home(n, block)? {
                break;
            }
            bytes += size;
            added.push(block);
        }
        blocks.extend(&added);
        let is_there = !blocks.is_empty();
        Ok(is_there.then_some(Way {
            added,
            ..Way::new(Some(n), blocks)
        }))
    }

    /// Reads a block from the origin and writes it to home `n`; `false` if there is no room.
    fn send_home(&mut self, n: usize, block: BlockId) -> Result<bool, MoveError> {
        let bytes = self.stager.supply().bytes(block);
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
    fn stream(&mut self, blocks: &[BlockId], n: Option<usize>) -> Result<f64, MoveError> {
        self.stager.clear()?;
        let longest = PASS_TIME * self.probe_passes();
        let in_time = |asked: usize, at| blocks.get(asked).copied().filter(|_| at < longest);
        let brought = self.reader(1).read(n.is_some(), in_time)?;
        self.note_probed(n, brought.bytes());
        Ok(rate(&brought.marks))
    }
}

/// A block can only come from one place at a time: of those that origin and homes would both read,
/// the origin gets every second one.
fn part(ways: &mut [Way]) {
    let (origins, homes): (Vec<_>, Vec<_>) = ways.iter_mut().partition(|way| way.home.is_none());
    let homed = homes.iter().flat_map(|way| way.blocks.iter().copied());
    let homed: HashSet<BlockId> = homed.collect();
    let mut shared = 0;
    let mut taken = HashSet::new();
    for way in origins {
        way.blocks.retain(|block| {
            shared += usize::from(homed.contains(block));
            !homed.contains(block) || shared % 2 == 1
        });
        taken.extend(way.blocks.iter().copied());
    }
    for way in homes {
        way.blocks.retain(|block| !taken.contains(block));
    }
}

/// `count` of `all`, or all of them, at even distances; samples lie between each other.
fn spread(all: &[BlockId], count: usize, sample: Sample) -> Vec<BlockId> {
    let count = count.min(all.len());
    let shift = usize::from(sample == Sample::Behind);
    let place = |at: usize| (2 * at + shift) * all.len() / (2 * count);
    (0..count).map(|at| all[place(at)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_reaches_over_all_blocks_once() {
        let blocks = |ids: &[u32]| ids.iter().map(|&id| BlockId::new(id)).collect::<Vec<_>>();
        let all = blocks(&(10..30).collect::<Vec<_>>());
        assert_eq!(spread(&all, 4, Sample::Before), blocks(&[10, 15, 20, 25]));
        assert_eq!(spread(&all, 4, Sample::Behind), blocks(&[12, 17, 22, 27]));
        for sample in [Sample::Before, Sample::Behind] {
            assert_eq!(spread(&all, 100, sample), all);
            assert!(spread(&all, 0, sample).is_empty() && spread(&[], 5, sample).is_empty());
        }
    }

    #[test]
    fn no_block_is_read_from_two_places() {
        let blocks = |ids: &[u32]| ids.iter().map(|&id| BlockId::new(id)).collect::<Vec<_>>();
        let mut ways = [
            Way::new(None, blocks(&[1, 2, 3, 4, 5, 6])),
            Way::new(Some(0), blocks(&[2, 3, 7])),
            Way::new(Some(1), blocks(&[5, 6])),
        ];
        part(&mut ways);
        let found = ways.map(|way| way.blocks);
        assert_eq!(
            found,
            [blocks(&[1, 2, 4, 5]), blocks(&[3, 7]), blocks(&[6])]
        );
    }

    #[test]
    fn what_all_carry_at_once_goes_before_what_each_does_alone() {
        let carried = Carried {
            alone: vec![Some(3.0), Some(5.0), None],
            at_once: vec![Some(2.0), None, None],
            ..Carried::default()
        };
        let rates: Vec<_> = (0..4).map(|n| carried.of(n)).collect();
        assert_eq!(rates, [Some(2.0), Some(5.0), None, None]);
        assert!(Carried::default().is_empty() && !carried.is_empty());
    }
}
