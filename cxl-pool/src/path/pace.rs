//! The pace of a path: sizes of its pieces and window, its limit, and how busy it was.

use super::counters::PathCounters;
use super::disk::{DiskPace, DiskParts, Flight, WINDOW_MAX};
use crate::limit::TokenBucket;
use crate::units::{BytesPerSec, GRANULE, Nanos};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Piece and window bounds, in bytes. Measured: 512 KiB to 1 MiB pieces and a window of 4 MiB are
/// best on disks; deeper windows only add latency to a demand.
const PIECE_MIN: u64 = 16 << 10;
pub(super) const PIECE_MAX: u64 = 1 << 20;
/// Time whose worth of bytes a window and a piece hold at most.
const QUANTUM_S: f64 = 4e-3;
/// Bandwidth assumed until it has been measured.
const BANDWIDTH_GUESS: f64 = 1e9;

/// See the module.
pub(super) struct Pace {
    counters: Arc<PathCounters>,
    bucket: Option<TokenBucket>,
    limit: Option<BytesPerSec>,
    in_flight_bytes: u64,
    /// Since when the path has been held back by its window or limit.
    busy_since: Option<Nanos>,
    disk: Option<DiskPace>,
    /// Nothing starts until everything is home.
    wants_quiet: bool,
}

impl Pace {
    pub(super) fn new(
        counters: Arc<PathCounters>,
        limit: Option<BytesPerSec>,
        disk: Option<DiskParts>,
        now: Nanos,
    ) -> Self {
        Self {
            disk: disk.map(|parts| DiskPace::new(parts, Arc::clone(&counters), now)),
            wants_quiet: false,
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

    /// Bytes in flight, at most, whatever sizes the window.
    fn window_max(&self, piece: u64) -> u64 {
        self.quantum().clamp(2 * piece, WINDOW_MAX.max(2 * piece))
    }

    /// The window has room for one more piece.
    fn has_window(&self) -> bool {
        let piece = self.piece_bytes();
        let most = self.window_max(piece);
        let disk = self.disk.as_ref();
        let window = disk.map_or(most, |disk| disk.window_bytes(piece, most));
        self.in_flight_bytes + piece <= window
    }

    /// One more piece may start.
    pub(super) fn has_room(&self) -> bool {
        self.has_window() && !(self.wants_quiet && self.in_flight_bytes > 0)
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
    pub(super) fn started(&mut self, len: u64, now: Nanos) -> Flight {
        let disk = self.disk.as_mut().filter(|_| len > 0);
        if let Some(disk) = disk.filter(|_| self.in_flight_bytes == 0) {
            disk.started_alone(now);
            self.wants_quiet = false;
        }
        self.in_flight_bytes += len;
        Flight {
            started: now,
            ahead: self.in_flight_bytes,
        }
    }

    /// An operation on `len` bytes did all it should, at its first try.
    pub(super) fn timed(&mut self, flight: Flight, len: u64, now: Nanos) {
        if let Some(disk) = self.disk.as_mut().filter(|_| len > 0) {
            disk.timed(flight, len, now);
        }
    }

    /// An operation on `len` bytes has come home.
    pub(super) fn ended(&mut self, len: u64) {
        self.in_flight_bytes -= len;
    }

    /// `len` bytes were moved.
    pub(super) fn moved(&mut self, len: u64) {
        self.counters.bytes.fetch_add(len, Ordering::Relaxed);
        self.counters.pieces.fetch_add(1, Ordering::Relaxed);
        if self.busy_since.is_some() {
            self.counters.busy_bytes.fetch_add(len, Ordering::Relaxed);
            let piece = self.piece_bytes();
            let most = self.window_max(piece);
            if let Some(disk) = self.disk.as_mut() {
                disk.carried(len, piece, most);
            }
        }
    }

    /// A block was moved whole, which was a demand since `demanded`.
    pub(super) fn ended_block(&self, demanded: Option<Nanos>, now: Nanos) {
        self.counters.blocks.fetch_add(1, Ordering::Relaxed);
        if let Some(since) = demanded {
            let waited = now.since(since);
            self.counters.demands.fetch_add(1, Ordering::Relaxed);
            self.counters.demand_ns.fetch_add(waited, Ordering::Relaxed);
        }
    }

    /// The window or the limit holds the path back from now on.
    pub(super) fn hold_back(&mut self, now: Nanos) {
        self.busy_since.get_or_insert(now);
    }

    /// Adds the time since the last look to the busy time.
    pub(super) fn note_busy(&mut self, now: Nanos) {
        if let Some(disk) = self.disk.as_mut() {
            disk.look(now);
            self.wants_quiet = disk.wants_quiet(now);
        }
        let Some(since) = self.busy_since else { return };
        let busy = now.since(since);
        if let Some(disk) = self.disk.as_mut() {
            disk.busy(busy);
        }
        self.counters.busy_ns.fetch_add(busy, Ordering::Relaxed);
        self.busy_since = Some(now);
    }

    /// There is nothing more to start: busy only while the window is still full.
    pub(super) fn ran_dry(&mut self, now: Nanos) {
        if self.has_window() {
            self.note_busy(now);
            self.busy_since = None;
        }
    }
}
