//! The mover: the one component that moves blocks. It owns the paths, each on a thread of its own,
//! or, in simulation, each an actor that takes its turns in the thread of whoever waits.
//!
//! Callers hold the other end: they ask for blocks over a path, raise or cancel what they asked
//! for, and wait for slots. A failed move poisons its slot and leaves its error here for whoever
//! waits. A path that ends takes its own moves with it; the others go on.

mod lane;

use crate::block::BlockSpec;
use crate::checksum::SumStore;
use crate::clock::Clock;
use crate::path::{Around, Outcome, Path, PathCounters};
pub use crate::path::{Bounce, PathParts};
use crate::table::block_of;
use crate::transfer::{Class, Free, MoveError, StoreWant, Want};
use crate::turns::Turns;
use crate::units::{BlockId, PathId};
use lane::{Command, Lane, LaneEnd, PathActor};
use larder_sys::lease::{ReadLease, SlotTable};
use larder_sys::slot::State;
use larder_sys::space::Extent;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest sleep of an idle path, and of a waiter before it looks whether the path still lives.
const IDLE: Duration = Duration::from_millis(500);

/// Looks at the slot this often before a waiter sleeps; a few microseconds.
const SPINS: u32 = 2000;

/// What stands behind a path, for the report.
#[derive(Clone, Debug)]
pub struct PathInfo {
    pub name: String,
    pub driver: &'static str,
    pub notes: Vec<String>,
}

/// A block that is asked for.
#[derive(Debug)]
pub struct Request {
    pub block: BlockId,
    pub slot: usize,
    pub spec: Arc<BlockSpec>,
    pub class: Class,
    /// Order of use among the requests of a class: smaller is needed sooner.
    pub due: u64,
    pub is_checked: bool,
    /// The replica that is read, where it could be evicted meanwhile; held until the move ends.
    pub pinned: Option<ReadLease>,
}

/// A block that is to be written to another tier.
#[derive(Debug)]
pub struct Store {
    pub block: BlockId,
    /// The replica to write; held until every byte is written.
    pub from: ReadLease,
    /// The slot of the new replica.
    pub slot: usize,
    pub class: Class,
    /// Order among the stores of a class: smaller goes sooner.
    pub due: u64,
}

/// See the module.
pub struct Mover {
    table: Arc<SlotTable>,
    lanes: Vec<Lane>,
    info: Vec<PathInfo>,
    errors: Arc<Mutex<HashMap<usize, MoveError>>>,
    sums: Arc<SumStore>,
    /// The path that fills a slot, or did so last.
    routes: Box<[AtomicU16]>,
    clock: Arc<dyn Clock>,
    drive: Drive,
}

/// Who drives the paths.
enum Drive {
    /// Their threads.
    Threads(Vec<JoinHandle<()>>),
    /// Whoever waits.
    Turns(Arc<dyn Turns>),
}

impl Mover {
    /// Starts a thread for each path; `PathId` counts them in this order. Fails if the system has
    /// no thread left.
    pub fn start(
        table: Arc<SlotTable>,
        paths: Vec<PathParts>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        Self::with_drive(table, paths, clock, Drive::Threads(Vec::new()))
    }

    /// The same without threads: `turns` drives the paths while somebody waits.
    pub fn stepped(
        table: Arc<SlotTable>,
        paths: Vec<PathParts>,
        clock: Arc<dyn Clock>,
        turns: Arc<dyn Turns>,
    ) -> Self {
        let made = Self::with_drive(table, paths, clock, Drive::Turns(turns));
        made.expect("turns start no thread")
    }

    fn with_drive(
        table: Arc<SlotTable>,
        paths: Vec<PathParts>,
        clock: Arc<dyn Clock>,
        drive: Drive,
    ) -> io::Result<Self> {
        let routes = (0..table.len()).map(|_| AtomicU16::new(0)).collect();
        let mut mover = Self {
            table,
            lanes: Vec::new(),
            info: Vec::new(),
            errors: Arc::default(),
            sums: Arc::default(),
            routes,
            clock,
            drive,
        };
        for parts in paths {
            mover.start_path(parts)?;
        }
        Ok(mover)
    }

    fn start_path(&mut self, parts: PathParts) -> io::Result<()> {
        let mut notes = parts.driver.notes().to_vec();
        notes.extend(parts.disk.as_ref().and_then(|disk| disk.note.clone()));
        notes.extend(parts.bounce.as_ref().and_then(Bounce::note));
        let info = PathInfo {
            name: parts.name.clone(),
            driver: parts.driver.name(),
            notes,
        };
        let lane = Lane::new(parts.driver.waker());
        let around = Around {
            clock: Arc::clone(&self.clock),
            outcome: Box::new(Told {
                errors: Arc::clone(&self.errors),
                end: lane.end(),
            }),
            counters: Arc::clone(&lane.counters),
            sums: Arc::clone(&self.sums),
        };
        let mut path = Path::new(parts, around);
        let end = lane.end();
        match &mut self.drive {
            Drive::Threads(threads) => {
                let thread = std::thread::Builder::new()
                    .name(format!("larder-{}", info.name))
                    .spawn(move || end.serve(&mut path, IDLE))?;
                threads.push(thread);
            }
            Drive::Turns(turns) => turns.join(Box::new(PathActor::new(path, end, IDLE))),
        }
        self.lanes.push(lane);
        self.info.push(info);
        Ok(())
    }

    pub fn table(&self) -> &Arc<SlotTable> {
        &self.table
    }

    /// The paths, in the order of their ids.
    pub fn paths(&self) -> &[PathInfo] {
        &self.info
    }

    pub fn counters(&self, path: PathId) -> &PathCounters {
        &self.lanes[path.index()].counters
    }

    /// The path takes no more stores: its tier is full or may only be read, or its thread ended.
    pub fn is_closed(&self, path: PathId) -> bool {
        self.lanes[path.index()].is_closed()
    }

    /// The checksums of all blocks, for who brings some in by another way.
    pub fn sums(&self) -> &SumStore {
        &self.sums
    }

    /// The checksums of a block that was read or stored whole before.
    pub fn sums_of(&self, block: BlockId) -> Option<Arc<[u32]>> {
        self.sums.get(block)
    }

    /// Says what the checksums of a block are that was stored in an earlier run.
    pub fn set_sums(&self, block: BlockId, sums: Arc<[u32]>) {
        self.sums.replace(block, sums);
    }

    /// Asks for a block in `extent`, over `path`. The extent comes back if the slot holds the
    /// block already or is being filled.
    pub fn want(&self, path: PathId, request: Request, extent: Extent) -> Result<(), Extent> {
        let fill = self.table.begin_fill(request.slot, extent)?;
        self.send(
            path,
            request.slot,
            Command::Want(Want {
                block: request.block,
                spec: request.spec,
                class: request.class,
                due: request.due,
                fill,
                is_checked: request.is_checked,
                pinned: request.pinned,
            }),
        );
        Ok(())
    }

    /// Writes a block to `target`, an extent of the tier that `path` leads to; where that tier has
    /// memory, mapped or a device's, this is a copy. The extent comes back if the slot is not
    /// absent or the path is closed.
    pub fn store(&self, path: PathId, store: Store, target: Extent) -> Result<(), Extent> {
        if self.is_closed(path) {
            return Err(target);
        }
        let fill = self.table.begin_fill(store.slot, target)?;
        self.send(
            path,
            store.slot,
            Command::Store(StoreWant {
                block: store.block,
                from: store.from,
                class: store.class,
                due: store.due,
                fill,
            }),
        );
        Ok(())
    }

    /// Evicts `slot`, a replica on the tier that `path` leads to, and tells the tier. Its extent
    /// may be used again when the tier has answered. `false` if somebody reads the replica.
    pub fn free(&self, path: PathId, slot: usize) -> bool {
        let Some(extent) = self.table.evict(slot) else {
            return false;
        };
        let free = Command::Free(block_of(slot), Free::evicted(extent));
        self.lanes[path.index()].tell(free);
        true
    }

    /// Gives up the move into `slot`.
    pub fn cancel(&self, slot: usize) {
        self.lane_of(slot).tell(Command::Cancel(slot));
    }

    fn send(&self, path: PathId, slot: usize, command: Command) {
        self.routes[slot].store(path.index() as u16, Ordering::Release);
        self.lanes[path.index()].tell(command);
    }

    fn lane_of(&self, slot: usize) -> &Lane {
        &self.lanes[usize::from(self.routes[slot].load(Ordering::Acquire))]
    }

    /// Sleeps; moves go on meanwhile.
    pub fn rest(&self, time: Duration) {
        match &self.drive {
            Drive::Threads(_) => std::thread::sleep(time),
            Drive::Turns(turns) => turns.rest(time),
        }
    }

    /// Sleeps while `slot` is being filled, at most `time`.
    pub fn wait_filled(&self, slot: usize, time: Duration) {
        match &self.drive {
            Drive::Threads(_) => {
                self.table.wait_filled(slot, time);
            }
            Drive::Turns(turns) => turns.pass(),
        }
    }

    /// Pins `slot`, which was asked for, sleeping until it is filled.
    pub fn wait(&self, slot: usize) -> Result<ReadLease, MoveError> {
        let mut raised = None;
        loop {
            if let Some(lease) = self.table.pin(slot) {
                return Ok(lease);
            }
            match self.table.state(slot) {
                State::Filling => {
                    let route = self.routes[slot].load(Ordering::Acquire);
                    if raised.replace(route) != Some(route) {
                        self.lane_of(slot).tell(Command::Raise(slot));
                        self.spin(slot);
                    }
                    self.wait_filled(slot, IDLE);
                }
                State::Poisoned => {
                    let error = self.errors.lock().remove(&slot);
                    self.table.clear_poison(slot);
                    return Err(error.unwrap_or_else(|| self.stopped(slot)));
                }
                State::Absent => return Err(self.stopped(slot)),
                State::Ready | State::Draining => {}
            }
            if self.lane_of(slot).has_ended() && self.table.state(slot) == State::Filling {
                return Err(self.stopped(slot));
            }
        }
    }

    /// The tier behind a path that was closed for stores has room again.
    pub fn reopen(&self, path: PathId) {
        let lane = &self.lanes[path.index()];
        if lane.is_closed() && !lane.has_ended() {
            lane.tell(Command::Reopen);
            lane.open();
        }
    }

    fn spin(&self, slot: usize) {
        let spins = match self.drive {
            Drive::Threads(_) => SPINS,
            Drive::Turns(_) => 0,
        };
        for _ in 0..spins {
            if self.table.state(slot) != State::Filling {
                return;
            }
            std::hint::spin_loop();
        }
    }

    fn stopped(&self, slot: usize) -> MoveError {
        let cause = self.lane_of(slot).cause();
        MoveError::Stopped {
            cause: cause.unwrap_or_else(|| "the move was given up".to_owned()),
        }
    }
}

impl Drop for Mover {
    /// Ends the paths, each once what it has in flight is home.
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.tell(Command::Stop);
        }
        match &mut self.drive {
            Drive::Threads(threads) => {
                for thread in threads.drain(..) {
                    let _ = thread.join();
                }
            }
            Drive::Turns(turns) => {
                while !self.lanes.iter().all(Lane::has_ended) {
                    turns.pass();
                }
            }
        }
    }
}

/// What a path tells the callers.
struct Told {
    errors: Arc<Mutex<HashMap<usize, MoveError>>>,
    end: LaneEnd,
}

impl Outcome for Told {
    fn failed(&self, slot: usize, error: MoveError) {
        self.errors.lock().insert(slot, error);
    }

    fn closed(&self) {
        self.end.close();
    }
}

#[cfg(test)]
mod tests;
