//! Paths between tiers that have memory: no files, and the path's own thread as copy engine where
//! both sides are mapped.

use super::{Copied, Copier, Copy};
use crate::source::Source;
use larder_sys::file::FileError;
use larder_sys::io::{Done, Driver, Op, Verb};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// Copies between mapped tiers, in the thread that starts the copy.
#[derive(Default)]
pub struct MemoryCopier {
    done: Vec<Copied>,
    waker: Option<Waker>,
}

impl Copier for MemoryCopier {
    fn name(&self) -> &'static str {
        "memcpy"
    }

    fn wakes(&mut self, waker: Waker) {
        self.waker = Some(waker);
    }

    fn start(&mut self, mut copy: Copy) {
        copy.to.bytes_mut().copy_from_slice(copy.from.bytes());
        let outcome = Ok(());
        self.done.push(Copied { copy, outcome });
        // The path may be about to sleep.
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn reap(&mut self, done: &mut Vec<Copied>) {
        done.append(&mut self.done);
    }
}

/// The driver of a path whose copy engine does all the work: it waits.
pub struct IdleDriver {
    /// Who does the work.
    engine: &'static str,
    done: Vec<Done>,
    alarm: Arc<Alarm>,
}

#[derive(Default)]
struct Alarm {
    woken: Mutex<bool>,
    news: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.news.notify_one();
    }
}

impl IdleDriver {
    /// A driver of a path whose copy engine is called `engine`.
    pub fn new(engine: &'static str) -> Self {
        Self {
            engine,
            done: Vec::new(),
            alarm: Arc::default(),
        }
    }
}

impl Driver for IdleDriver {
    fn name(&self) -> &'static str {
        self.engine
    }

    fn notes(&self) -> &[String] {
        &[]
    }

    fn depth(&self) -> usize {
        64
    }

    fn submit(&mut self, op: Op) -> Result<(), Op> {
        assert!(
            matches!(op.verb, Verb::Seal(_) | Verb::Free),
            "a path without files moves nothing from or to files"
        );
        self.done.push(Done {
            tag: op.tag,
            verb: op.verb,
            outcome: Ok(0),
        });
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> std::io::Result<()> {
        let mut woken = self.alarm.woken.lock();
        if self.done.is_empty() && !*woken && !wait.is_zero() {
            let _ = self.alarm.news.wait_for(&mut woken, wait);
        }
        *woken = false;
        done.append(&mut self.done);
        Ok(())
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.alarm))
    }
}

/// The source of a path that has no files.
pub struct NoFiles;

impl Source for NoFiles {
    fn name(&self, _file: u32) -> String {
        "memory".to_owned()
    }

    fn file_len(&self, _file: u32) -> u64 {
        0
    }

    fn check(&self, _file: u32) -> Result<(), FileError> {
        Ok(())
    }
}
