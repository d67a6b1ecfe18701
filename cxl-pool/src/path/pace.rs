//! The pace of a path: sizes of its pieces and window, its limit, and how busy it was.

use crate::limit::TokenBucket;
use crate::units::{BytesPerSec, GRANULE, Nanos};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Piece and window bounds, in bytes. Measured: 512 KiB to 1 MiB pieces and a window of 4 MiB are
/// best on disks; deeper windows only add latency to a demand.
const PIECE_MIN: u64 = 16 << 10;
pub(super) const PIECE_MAX: u64 = 1 << 20;
const WINDOW_MAX: u64 = 4 << 20;
/// Time whose worth of bytes a window and a piece hold at most.
const QUANTUM_S: f64 = 4e-3;
/// Bandwidth assumed until it has been measured.
const BANDWIDTH_GUESS: f64 = 1e9;
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
}

impl PathCounters {
    /// Bytes per second while the path was busy, if it was long enough to tell.
    pub fn bandwidth(&self) -> Option<f64> {
        let busy = self.busy_ns.load(Ordering::Relaxed);
        let bytes = self.busy_bytes.load(Ordering::Relaxed);
        (busy >= MEASURED_NS).then(|| bytes as f64 / (busy as f64 / 1e9))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    counters: Arc<PathCounters>,
    bucket: Option<TokenBucket>,
    limit: Option<BytesPerSec>,
    in_flight_bytes: u64,
    /// Since when the path has been held back by its window or limit.
    busy_since: Option<Nanos>,
}

impl Pace {
    pub(super) fn new(counters: Arc<PathCounters>, limit: Option<BytesPerSec>, now: Nanos) -> Self {
        Self {
            counters,
            bucket: limit.map(|rate| TokenBucket::new(rate, now)),
            limit,
            in_flight_bytes: 0,
            busy_since: None,
        }
    }

    fn quantum(&self) -> u64 {
        let measured = self.counters.bandwidth().unwrap_or(BANDWIDTH_GUESS);
        let bandwidth = self.limit.map_or(measured, BytesPerSec::get);
        (bandwidth * QUANTUM_S) as u64
    }

    /// Bytes of a piece, in whole granules.
    pub(super) fn piece_bytes(&self) -> u64 {
        (self.quantum() / GRANULE * GRANULE).clamp(PIECE_MIN, PIECE_MAX)
    }

    /// The window has room for one more piece.
    pub(super) fn has_room(&self) -> bool {
        let piece = self.piece_bytes();
        let window = self.quantum().clamp(2 * piece, WINDOW_MAX.max(2 * piece));
        self.in_flight_bytes + piece <= window
    }

    /// Nanoseconds for which the limit holds the next piece back.
    pub(super) fn wait_ns(&mut self, now: Nanos) -> u64 {
        self.bucket.as_mut().map_or(0, |bucket| bucket.wait_ns(now))
    }

    /// A new piece of `len` bytes is paid for.
    pub(super) fn pay(&mut self, len: u64) {
        if let Some(bucket) = self.bucket.as_mut() {
            bucket.take(len);
        }
    }

    /// An operation on `len` bytes starts.
    pub(super) fn started(&mut self, len: u64) {
        self.in_flight_bytes += len;
    }

    /// An operation on `len` bytes has come home.
    pub(super) fn ended(&mut self, len: u64) {
        self.in_flight_bytes -= len;
    }

    /// `len` bytes were moved.
    pub(super) fn moved(&self, len: u64) {
        self.counters.bytes.fetch_add(len, Ordering::Relaxed);
        self.counters.pieces.fetch_add(1, Ordering::Relaxed);
        if self.busy_since.is_some() {
            self.counters.busy_bytes.fetch_add(len, Ordering::Relaxed);
        }
    }

    /// A block was moved whole.
    pub(super) fn ended_block(&self) {
        self.counters.blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// The window or the limit holds the path back from now on.
    pub(super) fn hold_back(&mut self, now: Nanos) {
        self.busy_since.get_or_insert(now);
    }

    /// Adds the time since the last look to the busy time.
    pub(super) fn note_busy(&mut self, now: Nanos) {
        let Some(since) = self.busy_since else { return };
        let busy = now.since(since);
        self.counters.busy_ns.fetch_add(busy, Ordering::Relaxed);
        self.busy_since = Some(now);
    }

    /// There is nothing more to start: busy only while the window is still full.
    pub(super) fn ran_dry(&mut self, now: Nanos) {
        if self.has_room() {
            self.note_busy(now);
            self.busy_since = None;
        }
    }
}
