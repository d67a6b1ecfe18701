//! What the tiers hold and the paths move over a run, looked at by a thread of its own.

use larder_pool::mover::Mover;
use larder_pool::sys::space::Space;
use larder_pool::units::PathId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks at the start.
const EVERY: Duration = Duration::from_millis(50);
/// Looks that are kept; when there are as many, every other one goes and the rest are rarer.
const LOOKS_MAX: usize = 2000;

/// What is looked at.
pub struct Watched {
    /// Tiers by name, with what they can hold; none of a node that is not there yet.
    pub spaces: Vec<(String, u64, Arc<Space>)>,
    pub mover: Arc<Mover>,
}

/// One look.
#[derive(Clone, Debug)]
pub struct Look {
    /// Since the start.
    pub seconds: f64,
    /// Bytes in use of each tier.
    pub held: Vec<u64>,
    /// Bytes that each path has moved so far.
    pub moved: Vec<u64>,
}

/// All of a run.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Names of the tiers, with their bytes, and of the paths.
    pub tiers: Vec<(String, u64)>,
    pub paths: Vec<String>,
    pub looks: Vec<Look>,
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    stop: Sender<()>,
    thread: JoinHandle<Timeline>,
}

impl Watched {
    fn look(&self, start: Instant) -> Look {
        let spaces = self.spaces.iter();
        let paths = (0..self.mover.paths().len()).map(PathId::new);
        Look {
            seconds: start.elapsed().as_secs_f64(),
            held: spaces.map(|(_, _, space)| space.used_bytes()).collect(),
            moved: paths
                .map(|path| self.mover.counters(path).bytes.load(Ordering::Relaxed))
                .collect(),
        }
    }

    /// Starts to look; fails if the host has no thread left.
    pub fn watch(self) -> std::io::Result<Watcher> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("timeline".to_owned())
            .spawn(move || self.run(&stopped))?;
        Ok(Watcher { stop, thread })
    }

    fn run(&self, stopped: &Receiver<()>) -> Timeline {
        let (start, mut every) = (Instant::now(), EVERY);
        let mut looks = vec![self.look(start)];
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            looks.push(self.look(start));
            if looks.len() >= LOOKS_MAX {
                every *= 2;
                thin(&mut looks);
            }
        }
        looks.push(self.look(start));
        let spaces = self.spaces.iter();
        let paths = self.mover.paths().iter();
        Timeline {
            tiers: spaces
                .map(|(name, bytes, _)| (name.clone(), *bytes))
                .collect(),
            paths: paths.map(|path| path.name.clone()).collect(),
            looks,
        }
    }
}

impl Watcher {
    /// Takes a last look, and gives all of them.
    pub fn finish(self) -> Timeline {
        drop(self.stop);
        self.thread.join().expect("looking does not panic")
    }
}

/// Leaves every other look.
fn thin(looks: &mut Vec<Look>) {
    let mut at = 0;
    looks.retain(|_| {
        at += 1;
        at % 2 == 1
    });
}

impl Timeline {
    /// Bytes per second of path `path`, over the time up to each look but the first.
    pub fn rates(&self, path: usize) -> impl Iterator<Item = (f64, f64)> {
        self.looks.windows(2).map(move |pair| {
            let seconds = (pair[1].seconds - pair[0].seconds).max(1e-9);
            let bytes = pair[1].moved[path] - pair[0].moved[path];
            (pair[1].seconds, bytes as f64 / seconds)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: f64, moved: u64) -> Look {
        Look {
            seconds,
            held: vec![0],
            moved: vec![moved],
        }
    }

    #[test]
    fn rates_are_of_the_time_between_looks_however_far_apart() {
        let mut timeline = Timeline {
            tiers: vec![("dram".to_owned(), 10)],
            paths: vec!["origin>dram".to_owned()],
            looks: (0..6)
                .map(|at| look(f64::from(at), at as u64 * 100))
                .collect(),
        };
        assert!(timeline.rates(0).all(|(_, rate)| rate == 100.0));
        thin(&mut timeline.looks);
        let ends: Vec<(f64, f64)> = timeline.rates(0).collect();
        assert_eq!(ends, [(2.0, 100.0), (4.0, 100.0)]);
    }
}
