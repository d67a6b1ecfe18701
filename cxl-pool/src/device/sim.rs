//! The copy engine of the simulated device: one worker thread that holds the key and does all
//! copies in the order they come, whichever path they come from.

use super::{Copied, Copier, Copy, CopyCounters, Direction};
use larder_sys::space::DeviceKey;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Waker;
use std::thread::JoinHandle;

/// A copy, and where its completion goes.
struct Job {
    copy: Copy,
    mailbox: Arc<Mailbox>,
}

/// Completions of one copier.
#[derive(Default)]
struct Mailbox {
    state: Mutex<Completions>,
    /// A copy has completed.
    news: Condvar,
}

#[derive(Default)]
struct Completions {
    done: Vec<Copied>,
    /// Copies started and not completed.
    in_flight: usize,
    waker: Option<Waker>,
}

/// The worker; it ends when the device and all its copiers are gone.
struct Worker {
    /// `None` only while it is dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<CopyCounters>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct SimDevice(Arc<Worker>);

impl SimDevice {
    /// Starts the worker of the device whose key it is.
    pub fn start(key: Arc<DeviceKey>) -> std::io::Result<Self> {
        let counters = Arc::new(CopyCounters::default());
        let (jobs, queue) = channel();
        let ours = Arc::clone(&counters);
        let thread = std::thread::Builder::new()
            .name("larder-sim-copy".to_owned())
            .spawn(move || serve(&queue, &key, &ours))?;
        Ok(Self(Arc::new(Worker {
            jobs: Some(jobs),
            thread: Some(thread),
            counters,
        })))
    }

    /// A copier for one path; all share the worker and its order.
    pub fn copier(&self) -> SimCopier {
        SimCopier {
            worker: Arc::clone(&self.0),
            mailbox: Arc::default(),
        }
    }

    /// What has been copied, over all copiers.
    pub fn counters(&self) -> &CopyCounters {
        &self.0.counters
    }
}

/// Does one copy after the other until nobody can send more.
fn serve(queue: &Receiver<Job>, key: &DeviceKey, counters: &CopyCounters) {
    while let Ok(Job { mut copy, mailbox }) = queue.recv() {
        perform(&mut copy, key);
        counters.count(copy.direction(), copy.from.len() as u64);
        let mut state = mailbox.state.lock();
        let outcome = Ok(());
        state.done.push(Copied { copy, outcome });
        state.in_flight -= 1;
        let waker = state.waker.clone();
        drop(state);
        mailbox.news.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Copies the bytes, as the device.
pub(crate) fn perform(copy: &mut Copy, key: &DeviceKey) {
    match copy.direction() {
        Direction::In => copy
            .to
            .device_bytes_mut(key)
            .copy_from_slice(copy.from.bytes()),
        Direction::Out => copy
            .to
            .bytes_mut()
            .copy_from_slice(copy.from.device_bytes(key)),
    }
}

/// One path's end of the worker.
pub struct SimCopier {
    worker: Arc<Worker>,
    mailbox: Arc<Mailbox>,
}

impl Copier for SimCopier {
    fn name(&self) -> &'static str {
        "simulated copy engine"
    }

    fn wakes(&mut self, waker: Waker) {
        self.mailbox.state.lock().waker = Some(waker);
    }

    fn start(&mut self, copy: Copy) {
        self.mailbox.state.lock().in_flight += 1;
        let mailbox = Arc::clone(&self.mailbox);
        let jobs = self.worker.jobs.as_ref().expect("present while used");
        let sent = jobs.send(Job { copy, mailbox });
        assert!(sent.is_ok(), "the worker lives as long as its copiers");
    }

    fn reap(&mut self, done: &mut Vec<Copied>) {
        done.append(&mut self.mailbox.state.lock().done);
    }
}

impl Drop for SimCopier {
    /// Waits for what was started, so that every piece is home when the copier is gone.
    fn drop(&mut self) {
        let mut state = self.mailbox.state.lock();
        while state.in_flight > 0 {
            self.mailbox.news.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_sys::lease::{FillPiece, ReadPiece};
    use larder_sys::mapping::Mapping;
    use larder_sys::space::Space;
    use std::sync::atomic::Ordering;

    #[test]
    fn bytes_go_in_and_out_in_order() {
        const PIECE: u64 = 64 << 10;
        let memory = Space::mapped(Mapping::new(4 << 20).expect("memory"));
        let (space, key) = Space::device(Mapping::new(4 << 20).expect("memory"));
        let device = SimDevice::start(Arc::new(key)).expect("a thread");
        let mut copier = device.copier();
        let piece =
            |space: &Arc<Space>| FillPiece::of(space.alloc_low(PIECE).expect("room"), PIECE);
        let mut done = Vec::new();
        for tag in 0..8 {
            let mut from = piece(&memory);
            from.bytes_mut().fill(tag as u8);
            let (from, to) = (from.into(), piece(&space));
            copier.start(Copy { tag, from, to });
        }
        while done.len() < 8 {
            copier.reap(&mut done);
        }
        assert!(done.iter().zip(0..).all(|(one, tag)| one.copy.tag == tag));
        for one in done.drain(..) {
            let (from, to) = (ReadPiece::from(one.copy.to), piece(&memory));
            let tag = one.copy.tag;
            copier.start(Copy { tag, from, to });
        }
        while done.len() < 8 {
            copier.reap(&mut done);
        }
        for (one, tag) in done.drain(..).zip(0..) {
            assert!(one.copy.to.bytes().iter().all(|&byte| byte == tag));
        }
        let counters = device.counters();
        assert_eq!(counters.bytes_in.load(Ordering::Relaxed), 8 * PIECE);
        assert_eq!(counters.bytes_out.load(Ordering::Relaxed), 8 * PIECE);
        let (from, to) = (piece(&memory).into(), piece(&space));
        copier.start(Copy { tag: 9, from, to });
        drop(copier);
        assert_eq!(device.counters().copies.load(Ordering::Relaxed), 17);
        drop(device);
        assert_eq!((memory.used_bytes(), space.used_bytes()), (0, 0));
    }
}
