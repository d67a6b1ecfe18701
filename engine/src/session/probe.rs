//! Probes: what the path and the memory carry, measured on the model's own bytes in the arena.
//!
//! A probe of the path reads at most 64 MiB or for 100 ms, into at most 32 MiB of the arena, used
//! over and over: a small hot buffer would overstate the link.

use crate::session::Session;
use larder_pool::mover::Request;
use larder_pool::sys::lease::ReadLease;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::{BlockId, PathId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROBE_BYTES: u64 = 64 << 20;
const PROBE_TIME: Duration = Duration::from_millis(100);
const AREA_BYTES: u64 = 32 << 20;
/// Bytes of resident blocks that a probe of the memory reads.
const MEMORY_BYTES: u64 = 256 << 20;

impl Session {
    /// Bytes per second of the path from the model files. Every weight leaves the arena.
    pub fn probe_origin(&mut self) -> Result<f64, MoveError> {
        self.stager.clear()?;
        let blocks = self.manifest.blocks.len();
        let start = Instant::now();
        let (mut asked, mut read, mut waiting) = (0, 0, VecDeque::new());
        let (mut in_area, mut next) = (0, 0);
        while asked < PROBE_BYTES && start.elapsed() < PROBE_TIME && next < blocks {
            let bytes = self.manifest.blocks[next].spec.extent_bytes();
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
            let block = BlockId::new(next as u32);
            let request = Request {
                block,
                slot: slot_of(block),
                spec: Arc::new(self.manifest.blocks[next].spec.clone()),
                class: Class::Prefetch,
                due: next as u64,
                is_checked: true,
                pinned: None,
            };
            assert!(
                self.mover.want(PathId::new(0), request, extent).is_ok(),
                "the arena holds no weights"
            );
            waiting.push_back(next);
            (asked, in_area, next) = (asked + bytes, in_area + bytes, next + 1);
        }
        for block in waiting {
            self.probe_wait(block, &mut read)?;
        }
        self.probed_bytes += read;
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
