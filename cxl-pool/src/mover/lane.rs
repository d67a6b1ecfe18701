//! A lane: how callers and the thread of one path talk to each other.

use crate::path::{Path, PathCounters};
use crate::sync::{AtomicBool, Mutex};
use crate::transfer::{Free, StoreWant, Want};
use crate::turns::Actor;
use crate::units::BlockId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;
use std::vec::IntoIter;

/// What a path thread is told.
pub(super) enum Command {
    Want(Want),
    Store(StoreWant),
    Free(BlockId, Free),
    Raise(usize),
    Cancel(usize),
    Reopen,
    Stop,
}

/// Why a path ended that was told to.
const TOLD: &str = "it was told to stop";

#[derive(Default)]
struct Inbox {
    commands: Vec<Command>,
    /// Why the thread ended, if it did.
    ended: Option<String>,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    is_closed: AtomicBool,
    has_ended: AtomicBool,
}

/// The callers' end.
pub(super) struct Lane {
    shared: Arc<Shared>,
    waker: Waker,
    pub(super) counters: Arc<PathCounters>,
}

/// The thread's end.
pub(super) struct LaneEnd(Arc<Shared>);

impl Lane {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            shared: Arc::default(),
            waker,
            counters: Arc::default(),
        }
    }

    pub(super) fn end(&self) -> LaneEnd {
        LaneEnd(Arc::clone(&self.shared))
    }

    /// Leaves a command for the thread. If the thread has ended the command is dropped, and with
    /// it the move that it asked for.
    pub(super) fn tell(&self, command: Command) {
        let mut inbox = self.shared.inbox.lock();
        if inbox.ended.is_some() {
            drop(inbox);
            return;
        }
        inbox.commands.push(command);
        drop(inbox);
        self.waker.wake_by_ref();
    }

    /// The path takes stores again.
    pub(super) fn open(&self) {
        self.shared.is_closed.store(false, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Acquire) || self.has_ended()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.shared.has_ended.load(Ordering::Acquire)
    }

    /// Why the thread ended, if it did.
    pub(super) fn cause(&self) -> Option<String> {
        self.shared.inbox.lock().ended.clone()
    }
}

impl LaneEnd {
    /// The path takes no more stores.
    pub(super) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
    }

    /// Drives `path` until it is told to stop or its driver fails.
    pub(super) fn serve(&self, path: &mut Path, idle: Duration) {
        // Dropped after the guard: the moves of commands that were taken and not carried out end
        // when the cause is known.
        let mut taken = Vec::new().into_iter();
        let mut guard = EndGuard {
            end: self,
            cause: "its thread panicked".to_owned(),
        };
        guard.cause = match self.drive(path, idle, &mut taken) {
            Ok(()) => TOLD.to_owned(),
            Err(error) => error.to_string(),
        };
    }

    fn drive(
        &self,
        path: &mut Path,
        idle: Duration,
        taken: &mut IntoIter<Command>,
    ) -> std::io::Result<()> {
        while self.turn(path, idle, taken)? {}
        Ok(())
    }

    /// Hands the path what it was told since, by way of `taken`, and lets it do its part; `false`
    /// if it is to stop.
    fn turn(
        &self,
        path: &mut Path,
        idle: Duration,
        taken: &mut IntoIter<Command>,
    ) -> std::io::Result<bool> {
        *taken = std::mem::take(&mut self.0.inbox.lock().commands).into_iter();
        for command in taken.by_ref() {
            match command {
                Command::Want(want) => path.want(want),
                Command::Store(want) => path.store(want),
                Command::Free(block, free) => path.free(block, free),
                Command::Raise(slot) => path.raise(slot),
                Command::Cancel(slot) => path.cancel(slot),
                Command::Reopen => path.reopen(),
                Command::Stop => return Ok(false),
            }
        }
        path.step(idle)?;
        Ok(true)
    }
}

/// A path without a thread.
pub(super) struct PathActor {
    path: Path,
    end: LaneEnd,
    idle: Duration,
}

impl PathActor {
    pub(super) const fn new(path: Path, end: LaneEnd, idle: Duration) -> Self {
        Self { path, end, idle }
    }
}

impl Actor for PathActor {
    fn turn(&mut self) -> bool {
        let mut taken = Vec::new().into_iter();
        let cause = match self.end.turn(&mut self.path, self.idle, &mut taken) {
            Ok(true) => return true,
            Ok(false) => TOLD.to_owned(),
            Err(error) => error.to_string(),
        };
        drop(EndGuard {
            end: &self.end,
            cause,
        });
        false
    }
}

/// Says that the thread is gone, however it went, before its moves are dropped: who finds a slot
/// absent then finds the cause too.
struct EndGuard<'a> {
    end: &'a LaneEnd,
    cause: String,
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let mut inbox = self.end.0.inbox.lock();
        inbox.ended = Some(std::mem::take(&mut self.cause));
        let left = std::mem::take(&mut inbox.commands);
        self.end.0.has_ended.store(true, Ordering::Release);
        drop(inbox);
        drop(left);
    }
}

#[cfg(all(test, feature = "explore"))]
mod explore;
