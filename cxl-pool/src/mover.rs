//! The mover: the one component that moves blocks. It owns the paths, each on a thread of its own.
//!
//! Callers hold the other end: they ask for blocks, raise or cancel what they asked for, and wait
//! for slots. A failed move poisons its slot and leaves its error here for whoever waits.

use crate::block::BlockSpec;
use crate::clock::Clock;
use crate::path::{Outcome, Path, PathCounters};
use crate::source::Source;
use crate::transfer::{Class, MoveError, Want};
use crate::units::{BlockId, BytesPerSec};
use larder_sys::io::Driver;
use larder_sys::lease::{FillLease, ReadLease, SlotTable};
use larder_sys::slot::State;
use larder_sys::space::Extent;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest sleep of an idle path, and of a waiter before it looks whether the path still lives.
const IDLE: Duration = Duration::from_millis(500);

/// Looks at the slot this often before a waiter sleeps; a few microseconds.
const SPINS: u32 = 2000;

/// What a path thread is told.
enum Command {
    Want(Want),
    Raise(usize),
    Cancel(usize),
    Stop,
}

/// What callers and the path thread share.
#[derive(Default)]
struct Shared {
    inbox: Mutex<Vec<Command>>,
    errors: Mutex<HashMap<usize, MoveError>>,
    /// Why the thread ended, if it did.
    ended: Mutex<Option<String>>,
    has_ended: AtomicBool,
}

/// Errors of a path, for those who wait.
struct Errors(Arc<Shared>);

impl Outcome for Errors {
    fn failed(&self, slot: usize, error: MoveError) {
        self.0.errors.lock().insert(slot, error);
    }
}

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
}

/// See the module.
pub struct Mover {
    table: Arc<SlotTable>,
    shared: Arc<Shared>,
    waker: Waker,
    counters: Arc<PathCounters>,
    info: PathInfo,
    thread: Option<JoinHandle<()>>,
}

/// Parts of a path that its mover puts together.
pub struct PathParts {
    /// Such as `origin>dram`.
    pub name: String,
    pub driver: Box<dyn Driver>,
    pub source: Box<dyn Source>,
    pub limit: Option<BytesPerSec>,
}

impl Mover {
    /// Starts the thread of the path.
    pub fn start(table: Arc<SlotTable>, parts: PathParts, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared::default());
        let counters = Arc::new(PathCounters::default());
        let waker = parts.driver.waker();
        let info = PathInfo {
            name: parts.name,
            driver: parts.driver.name(),
            notes: parts.driver.notes().to_vec(),
        };
        let mut path = Path::new(
            parts.driver,
            parts.source,
            clock,
            Box::new(Errors(Arc::clone(&shared))),
            Arc::clone(&counters),
            parts.limit,
        );
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("larder-{}", info.name))
            .spawn(move || {
                let guard = EndGuard(&ours);
                if let Err(error) = serve(&ours, &mut path) {
                    *guard.0.ended.lock() = Some(error.to_string());
                }
            })
            .expect("the system has a thread left");
        Self {
            table,
            shared,
            waker,
            counters,
            info,
            thread: Some(thread),
        }
    }

    pub fn table(&self) -> &Arc<SlotTable> {
        &self.table
    }

    pub fn counters(&self) -> &PathCounters {
        &self.counters
    }

    pub fn info(&self) -> &PathInfo {
        &self.info
    }

    /// Asks for a block in `extent`. The extent comes back if the slot holds the block already or
    /// is being filled.
    pub fn want(&self, request: Request, extent: Extent) -> Result<(), Extent> {
        let fill: FillLease = self.table.begin_fill(request.slot, extent)?;
        self.tell(Command::Want(Want {
            block: request.block,
            spec: request.spec,
            class: request.class,
            due: request.due,
            fill,
            is_checked: request.is_checked,
        }));
        Ok(())
    }

    /// Gives up the move into `slot`.
    pub fn cancel(&self, slot: usize) {
        self.tell(Command::Cancel(slot));
    }

    fn tell(&self, command: Command) {
        self.shared.inbox.lock().push(command);
        self.waker.wake_by_ref();
    }

    /// Pins `slot`, which was asked for, sleeping until it is filled.
    pub fn wait(&self, slot: usize) -> Result<ReadLease, MoveError> {
        let mut raised = false;
        loop {
            if let Some(lease) = self.table.pin(slot) {
                return Ok(lease);
            }
            match self.table.state(slot) {
                State::Filling => {
                    if !raised {
                        raised = true;
                        self.tell(Command::Raise(slot));
                        self.spin(slot);
                    }
                    self.table.wait_filled(slot, IDLE);
                }
                State::Poisoned => {
                    let error = self.shared.errors.lock().remove(&slot);
                    self.table.clear_poison(slot);
                    return Err(error.unwrap_or_else(|| self.stopped()));
                }
                State::Absent => return Err(self.stopped()),
                State::Ready | State::Draining => {}
            }
            if self.shared.has_ended.load(Ordering::Acquire) {
                return Err(self.stopped());
            }
        }
    }

    fn spin(&self, slot: usize) {
        for _ in 0..SPINS {
            if self.table.state(slot) != State::Filling {
                return;
            }
            std::hint::spin_loop();
        }
    }

    fn stopped(&self) -> MoveError {
        let cause = self.shared.ended.lock().clone();
        MoveError::Stopped {
            cause: cause.unwrap_or_else(|| "the move was given up".to_owned()),
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tells waiters that the thread is gone, however it went.
struct EndGuard<'a>(&'a Shared);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Release);
    }
}

fn serve(shared: &Shared, path: &mut Path) -> std::io::Result<()> {
    loop {
        let commands = std::mem::take(&mut *shared.inbox.lock());
        for command in commands {
            match command {
                Command::Want(want) => path.want(want),
                Command::Raise(slot) => path.raise(slot),
                Command::Cancel(slot) => path.cancel(slot),
                Command::Stop => return Ok(()),
            }
        }
        path.step(IDLE)?;
    }
}

#[cfg(test)]
mod tests;
