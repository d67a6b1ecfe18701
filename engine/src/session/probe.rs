//! Probes: what the paths and the memory carry, measured on the model's own bytes in the arena.
//!
//! A probe of the path reads at most 64 MiB or for 100 ms, into at most 32 MiB of the arena, used
//! over and over: a small hot buffer would overstate the link.

use crate::session::Session;
use larder_pool::sys::lease::ReadLease;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const PROBE_BYTES: u64 = 64 << 20;
const PROBE_TIME: Duration = Duration::from_millis(100);
const AREA_BYTES: u64 = 32 << 20;
/// Bytes of resident blocks that a probe of the memory reads.
const MEMORY_BYTES: u64 = 256 << 20;

impl Session {
    /// Bytes per second of every path into the fast tier, in the order of [`Session::inward`];
    /// `None` for a home whose limit says enough, or that has no room. Every weight leaves the
    /// arena.
    pub fn probe_paths(&mut self) -> Result<Vec<Option<f64>>, MoveError> {
        let origin: Vec<usize> = (0..self.manifest.blocks.len()).collect();
        // Replicas are read from at once.
        let each = self.stream(&origin, None)? / self.origins as f64;
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

    /// Bytes per second at which `blocks` come from home `n`, or from the origin.
    fn stream(&mut self, blocks: &[usize], n: Option<usize>) -> Result<f64, MoveError> {
        self.stager.clear()?;
        let start = Instant::now();
        let (mut asked, mut read, mut waiting) = (0, 0, VecDeque::new());
        let (mut in_area, mut next) = (0, 0);
        while asked < PROBE_BYTES && start.elapsed() < PROBE_TIME && next < blocks.len() {
            let index = blocks[next];
            let bytes = self.manifest.blocks[index].spec.extent_bytes();
            let extent = (in_area + bytes <= AREA_BYTES)
                .then(|| self.space.alloc_low(bytes))
                .flatten();
            let Some(extent) = extent else {
                let Some(oldest) = waiting.pop_front() else {
                    break;
                };
                in_area -= self.probe_wait(oldest, &mut read)?;
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
            (asked, in_area, next) = (asked + bytes, in_area + bytes, next + 1);
        }
        for block in waiting {
            self.probe_wait(block, &mut read)?;
        }
        let path = n.map_or(0, |n| self.homes.list[n].read.index());
        self.probed[path] += read;
        Ok(read as f64 / start.elapsed().as_secs_f64())
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
        let rate = self.probe_memory();
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
