//! A thread that writes the counts into a file every few seconds, so that those of an engine which
//! is killed are kept, and once more when the engine ends.

use super::file::{self, HeatFileError};
use larder_ebpf::HeatArray;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time between two looks at the counts.
const EVERY: Duration = Duration::from_secs(2);

/// The thread; it writes once more and ends when this is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `None` once it has been told to end.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<String>>>,
}

/// What the thread has.
struct Place {
    path: PathBuf,
    model: [u64; 4],
    array: Arc<HeatArray>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Keeper {
    /// Writes the counts of `array` as they are, and goes on with that.
    pub(super) fn start(
        path: &Path,
        model: [u64; 4],
        array: Arc<HeatArray>,
    ) -> Result<Self, HeatFileError> {
        let failure = Arc::default();
        let place = Place {
            path: path.to_path_buf(),
            model,
            array,
            failure: Arc::clone(&failure),
        };
        let written = counts(&place.array);
        file::write(path, model, &written)?;
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("heat".to_owned())
            .spawn(move || place.run(written, &stopped))
            .map_err(|source| HeatFileError::Write {
                path: path.to_path_buf(),
                source,
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            failure,
        })
    }

    /// Why the counts of late are not in the file, if that is so.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}

impl Place {
    fn run(&self, mut written: Vec<u64>, stopped: &Receiver<()>) {
        loop {
            let goes_on = stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout);
            let counts = counts(&self.array);
            if counts != written {
                let outcome = file::write(&self.path, self.model, &counts);
                *self.failure.lock() = outcome.err().map(|error| error.to_string());
                written = counts;
            }
            if !goes_on {
                return;
            }
        }
    }
}

/// Uses of all blocks, by entry.
pub(super) fn counts(array: &HeatArray) -> Vec<u64> {
    let entries = 0..array.entries();
    entries.map(|entry| array.get(entry).touches).collect()
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing that a panic could have left behind.
            let _ = thread.join();
        }
    }
}
