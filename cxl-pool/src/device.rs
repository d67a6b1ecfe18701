//! Devices whose bytes the CPU cannot reach, and the copy engines that can.
//!
//! What goes to a device or comes from it passes through staging memory: a driver reads into
//! staging, the checksum is made there, and a copy engine takes the piece on. Who plays the device
//! in this process holds the key of its space; nobody else gets its bytes.

mod memory;
mod sim;

pub use memory::{IdleDriver, MemoryCopier, NoFiles};
pub(crate) use sim::perform;
pub use sim::{SimCopier, SimDevice};

use larder_sys::lease::{FillPiece, ReadPiece};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

/// One copy between staging memory and a device; it owns both pieces until it has completed.
#[derive(Debug)]
pub struct Copy {
    /// Comes back with the completion.
    pub tag: u64,
    pub from: ReadPiece,
    pub to: FillPiece,
}

impl Copy {
    /// Where the copy goes.
    pub fn direction(&self) -> Direction {
        if self.to.is_on_device() {
            Direction::In
        } else {
            Direction::Out
        }
    }
}

/// The direction of a copy, as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

/// A copy that has completed, well or not.
#[derive(Debug)]
pub struct Copied {
    pub copy: Copy,
    pub outcome: Result<(), CopyError>,
}

/// A copy engine failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status {status}")]
pub struct CopyError {
    /// What the device's driver says.
    pub status: i32,
}

/// A copy engine. One thread starts and reaps; copies complete in the order they were started.
pub trait Copier: Send {
    /// What stands behind, for messages.
    fn name(&self) -> &'static str;

    /// Called once, before anything is started: whom to wake when a copy has completed.
    fn wakes(&mut self, waker: Waker);

    /// Starts a copy of `from.len()` bytes, which `to` has too.
    fn start(&mut self, copy: Copy);

    /// Appends what has completed, without waiting.
    fn reap(&mut self, done: &mut Vec<Copied>);
}

/// What a copy engine has done, read by anybody at any time.
#[derive(Debug, Default)]
pub struct CopyCounters {
    /// Bytes from staging to the device: `dram>hbm`.
    pub bytes_in: AtomicU64,
    /// Bytes from the device to staging: `hbm>dram`.
    pub bytes_out: AtomicU64,
    pub copies: AtomicU64,
}

impl CopyCounters {
    fn count(&self, direction: Direction, bytes: u64) {
        let counter = match direction {
            Direction::In => &self.bytes_in,
            Direction::Out => &self.bytes_out,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
        self.copies.fetch_add(1, Ordering::Relaxed);
    }
}
