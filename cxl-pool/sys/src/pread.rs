//! Reads and writes by a few threads that call pread and pwrite, where io_uring is refused.

use crate::file::SourceFile;
use crate::io::{Done, Driver, Errno, Op, Verb};
use crate::sync::{Condvar, JoinHandle, Mutex, spawn_named};
use nix::sys::uio::{pread, pwrite};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// Threads; also the reads that really overlap.
const THREADS: usize = if cfg!(all(test, feature = "explore")) {
    2
} else {
    4
};
/// Operations taken before `submit` refuses.
const DEPTH: usize = 64;

/// What the threads and the owner share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Queues>,
    /// Work has come, or the driver ends.
    work: Condvar,
    /// A completion or a wake has come.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queues {
    submitted: VecDeque<Op>,
    done: Vec<Done>,
    woken: bool,
    ending: bool,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.state.lock().woken = true;
        self.news.notify_one();
    }
}

/// See the module.
#[derive(Debug)]
pub struct PreadDriver {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    in_flight: usize,
    notes: Vec<String>,
}

impl PreadDriver {
    /// Starts the threads over `files`; `notes` say why this driver was chosen.
    pub fn new(files: &Arc<[Arc<SourceFile>]>, notes: Vec<String>) -> Self {
        let shared = Arc::new(Shared::default());
        let start = |index: usize| {
            let (shared, files) = (Arc::clone(&shared), Arc::clone(files));
            let name = format!("larder-pread-{index}");
            spawn_named(&name, move || serve(&shared, &files))
        };
        // A host without a thread left does with fewer.
        let threads: Vec<_> = (0..THREADS).map(start).map_while(Result::ok).collect();
        assert!(!threads.is_empty(), "the system has a thread left");
        Self {
            shared,
            threads,
            in_flight: 0,
            notes,
        }
    }
}

/// A thread's life: take one read, do it, answer.
fn serve(shared: &Shared, files: &[Arc<SourceFile>]) {
    let mut state = shared.state.lock();
    loop {
        let Some(mut op) = state.submitted.pop_front() else {
            if state.ending {
                return;
            }
            shared.work.wait(&mut state);
            continue;
        };
        drop(state);
        let (file, at) = (&files[op.file as usize], op.offset as libc::off_t);
        let outcome = match &mut op.verb {
            Verb::Read(piece) => pread(file.fd(), piece.bytes_mut(), at),
            Verb::Write(piece) => write_whole(file, piece.bytes(), at),
            Verb::Seal(_) | Verb::Free => Ok(0),
        };
        state = shared.state.lock();
        state.done.push(Done {
            tag: op.tag,
            verb: op.verb,
            outcome,
        });
        shared.news.notify_one();
    }
}

/// Writes all of `bytes` at `at`: a full disk takes a part and says why it takes no more only when
/// asked for the rest.
fn write_whole(file: &SourceFile, bytes: &[u8], at: libc::off_t) -> Result<usize, Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match pwrite(file.fd(), &bytes[done..], at + done as libc::off_t)? {
            0 => break,
            taken => done += taken,
        }
    }
    Ok(done)
}

impl Driver for PreadDriver {
    fn name(&self) -> &'static str {
        "pread threads"
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn submit(&mut self, op: Op) -> Result<(), Op> {
        if self.in_flight == DEPTH {
            return Err(op);
        }
        self.in_flight += 1;
        self.shared.state.lock().submitted.push_back(op);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Submitting has started it.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> std::io::Result<()> {
        let mut state = self.shared.state.lock();
        if state.done.is_empty() && !state.woken && !wait.is_zero() {
            let _ = self.shared.news.wait_for(&mut state, wait);
        }
        state.woken = false;
        self.in_flight -= state.done.len();
        done.append(&mut state.done);
        Ok(())
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.shared))
    }
}

impl Drop for PreadDriver {
    /// Ends the threads once every read submitted has completed.
    fn drop(&mut self) {
        self.shared.state.lock().ending = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(all(test, feature = "explore"))]
mod explore;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::check::{reads_files, writes_files};

    #[test]
    fn reads_files_and_wakes() {
        reads_files(|files, _| Box::new(PreadDriver::new(&files.into(), Vec::new())));
    }

    #[test]
    fn writes_files_and_completes_seals() {
        writes_files(|files, _| Box::new(PreadDriver::new(&files.into(), Vec::new())));
    }
}
