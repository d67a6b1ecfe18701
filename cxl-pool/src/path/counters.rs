//! What a path has done, counted where everybody can read it.

use super::health::HealthCounters;
use std::sync::atomic::{AtomicU64, Ordering};

/// Busy time after which the measured bandwidth is believed.
const MEASURED_NS: u64 = 20_000_000;

/// What a path has done, read by anybody at any time.
#[derive(Debug, Default)]
pub struct PathCounters {
    pub bytes: AtomicU64,
    pub pieces: AtomicU64,
    /// Time in which the window was full or the limit held the path back.
    pub busy_ns: AtomicU64,
    /// Bytes that arrived in that time.
    pub busy_bytes: AtomicU64,
    pub blocks: AtomicU64,
    /// Blocks that somebody waited for, and the time from when they were a demand on.
    pub demands: AtomicU64,
    pub demand_ns: AtomicU64,
    /// Of a disk: how it fares, the time of its requests at the last look, and the window.
    pub health: HealthCounters,
    pub device_ns: AtomicU64,
    pub window_bytes: AtomicU64,
}

impl PathCounters {
    /// Bytes per second while the path was busy, if it was long enough to tell.
    pub fn bandwidth(&self) -> Option<f64> {
        let busy = self.busy_ns.load(Ordering::Relaxed);
        let bytes = self.busy_bytes.load(Ordering::Relaxed);
        (busy >= MEASURED_NS).then(|| bytes as f64 / (busy as f64 / 1e9))
    }
}
