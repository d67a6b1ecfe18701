//! Who brings the blocks of a probe: one reader per path, each on a thread of its own where several
//! run at once, so that a slow path keeps none of the others waiting.

use super::marks::{Brought, Mark};
use super::{PASS_BYTES, PASS_TIME, PASSES};
use crate::home::Homes;
use crate::session::SessionError;
use crate::supply::Supply;
use larder_pool::sys::space::Space;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What readers read with.
pub(super) struct Reader<'a> {
    pub(super) space: &'a Arc<Space>,
    pub(super) supply: &'a Supply,
    pub(super) homes: &'a Homes,
    /// Bytes of the arena that each may have in use.
    pub(super) area: u64,
    /// When all of them began.
    pub(super) start: Instant,
}

/// Readers that run at once.
struct Beside {
    count: usize,
    /// Those that have made their passes, but go on.
    done: AtomicUsize,
}

impl Beside {
    fn is_over(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.count
    }

    fn end(&self) {
        self.done.fetch_add(self.count, Ordering::Relaxed);
    }
}

/// A path, and the blocks that a probe reads over it.
pub(super) struct Way {
    /// Number of the home; `None` of the origin.
    pub(super) home: Option<usize>,
    pub(super) blocks: Vec<BlockId>,
    /// Of those, what was brought home for the probe.
    pub(super) added: Vec<BlockId>,
}

impl Way {
    pub(super) const fn new(home: Option<usize>, blocks: Vec<BlockId>) -> Self {
        Self {
            home,
            blocks,
            added: Vec::new(),
        }
    }
}

impl Reader<'_> {
    /// Reads all `ways` at once, each over and over, until all have made their passes or the time
    /// of these is up.
    pub(super) fn read_at_once(&self, ways: &[Way]) -> Result<Vec<Brought>, SessionError> {
        let beside = Beside {
            count: ways.len(),
            done: AtomicUsize::new(0),
        };
        let (first, others) = ways.split_first().expect("a path at least");
        std::thread::scope(|scope| {
            let mut started = Vec::new();
            for way in others {
                let thread = std::thread::Builder::new().name("larder-probe".to_owned());
                let thread = thread.spawn_scoped(scope, || self.read_beside(way, &beside));
                started.push(thread.map_err(|error| {
                    beside.end();
                    SessionError::Threads(error)
                })?);
            }
            let mut brought = vec![self.read_beside(first, &beside)?];
            for thread in started {
                brought.push(thread.join().unwrap_or_else(|panic| resume_unwind(panic))?);
            }
            Ok(brought)
        })
    }

    /// Reads `way` until all that read `beside` each other have made their passes.
    fn read_beside(&self, way: &Way, beside: &Beside) -> Result<Brought, MoveError> {
        let bytes: u64 = way
            .blocks
            .iter()
            .map(|&block| self.supply.bytes(block))
            .sum();
        let rounds = (PASS_BYTES * u64::from(PASSES)) as f64 / bytes.max(1) as f64;
        let passes = (way.blocks.len() as f64 * rounds).ceil() as usize;
        let is_done = Cell::new(false);
        let brought = self.read(way.home.is_some(), |asked, at| {
            if asked >= passes && !is_done.replace(true) {
                beside.done.fetch_add(1, Ordering::Relaxed);
            }
            let is_over = at >= PASS_TIME * PASSES || beside.is_over();
            let more = way.blocks.get(asked % way.blocks.len().max(1));
            more.filter(|_| !is_over).copied()
        });
        // Whatever ended it, the others need not go on without it.
        beside.end();
        brought
    }

    /// Brings the blocks that `next` names by their number and the time, from their home or from
    /// the origin, until it names none or there is no room. They leave at once.
    pub(super) fn read(
        &self,
        is_home: bool,
        next: impl Fn(usize, Duration) -> Option<BlockId>,
    ) -> Result<Brought, MoveError> {
        let (mut marks, mut read, mut full_until) = (Vec::new(), 0, None);
        let (mut waiting, mut in_area, mut asked) = (VecDeque::new(), 0, 0);
        loop {
            let at = self.start.elapsed();
            let more = next(asked, at);
            if more.is_none() {
                full_until.get_or_insert(at);
            }
            // One that is read again may still be on its way.
            let free = more.filter(|block| !waiting.contains(block));
            let room = free.and_then(|block| {
                let bytes = self.supply.bytes(block);
                let fits = in_area + bytes <= self.area;
                let extent = fits.then(|| self.space.alloc_low(bytes)).flatten()?;
                Some((block, bytes, extent))
            });
            let Some((block, bytes, extent)) = room else {
                let Some(oldest) = waiting.pop_front() else {
                    break;
                };
                let bytes = self.take(oldest)?;
                (in_area, read) = (in_area - bytes, read + bytes);
                let at = self.start.elapsed();
                marks.push(Mark { at, bytes: read });
                continue;
            };
            let due = asked as u64;
            if is_home {
                self.homes.fetch(block, Class::Prefetch, due, extent);
            } else {
                self.supply
                    .fetch_origin(block, Class::Prefetch, due, extent);
            }
            waiting.push_back(block);
            (in_area, asked) = (in_area + bytes, asked + 1);
        }
        Ok(Brought {
            marks,
            full_until: full_until.unwrap_or_else(|| self.start.elapsed()),
        })
    }

    /// Waits for a block and lets it go.
    pub(super) fn take(&self, block: BlockId) -> Result<u64, MoveError> {
        let slot = slot_of(block);
        drop(self.supply.mover().wait(slot)?);
        drop(self.supply.table().evict(slot));
        Ok(self.supply.bytes(block))
    }
}
