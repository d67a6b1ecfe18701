//! Slow or busy: two reasons for long waits, told apart by where the time goes.
//!
//! By Little's law the time that requests spent at a device, all together, divided by the time
//! that went by, is how many were there at once. A disk that takes long although it holds no more
//! than what this path sent is slow. One that holds more is busy with others, and so is one whose
//! requests take what they always took while the path waits all the same: the queue is above it.

use super::meter::DeviceTotals;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many times the usual is long.
const LONG: f64 = 4.0;
/// A request that takes this long comes from a slow disk, however usual it is there.
const SLOW_NS: f64 = 20e6;
/// So much of a piece's time away from the device is a wait, not the way to it and back.
const ABOVE_NS: f64 = 2e6;
/// Requests of one piece, at most: pieces are 1 MiB and requests 128 KiB or more.
const REQUESTS_MAX: f64 = 8.0;
/// Requests at the device beside twice our own that need not be somebody else's.
const SLACK: f64 = 2.0;
/// Share of the looks that makes a state the one to tell.
const SHARE: u64 = 4;

/// How a disk fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// It takes what it always took.
    Steady,
    /// The path waits behind others, at the device or above it.
    Busy,
    /// The device itself takes long.
    Slow,
    /// The path waits long, and nobody sees the device.
    Unseen,
}

/// Looks at a disk by what they found.
#[derive(Debug, Default)]
pub struct HealthCounters([AtomicU64; 4]);

impl HealthCounters {
    pub(super) fn count(&self, state: DiskState) {
        self.0[state as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The worst state of at least a quarter of the looks; `None` if there were none.
    pub fn state(&self) -> Option<DiskState> {
        let of = |state: DiskState| self.0[state as usize].load(Ordering::Relaxed);
        let worst_first = [DiskState::Slow, DiskState::Busy, DiskState::Unseen];
        let all = of(DiskState::Steady) + worst_first.map(of).iter().sum::<u64>();
        let told = worst_first
            .into_iter()
            .find(|&state| of(state) * SHARE >= all);
        (all > 0).then(|| told.unwrap_or(DiskState::Steady))
    }
}

/// What was seen between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// Time between them.
    pub(super) ns: u64,
    /// Pieces that came home, the time that they took together and what was to be expected.
    pub(super) pieces: u64,
    pub(super) nanos: u64,
    pub(super) expected_ns: u64,
    /// Requests of everybody.
    pub(super) device: Option<DeviceTotals>,
}

/// What is usual for a disk.
#[derive(Debug)]
pub(super) struct Health {
    /// Highest rate, in bytes per nanosecond, and least latency beside it.
    usual: Option<(f64, f64)>,
    /// Least mean time of a request, and least number of requests per piece.
    request_ns: f64,
    per_piece: f64,
}

impl Health {
    pub(super) const fn new() -> Self {
        Self {
            usual: None,
            request_ns: f64::MAX,
            per_piece: REQUESTS_MAX,
        }
    }

    /// Rate and latency that the path has without a queue.
    pub(super) const fn usual(&self) -> Option<(f64, f64)> {
        self.usual
    }

    pub(super) fn learn(&mut self, rate: f64, quiet: f64) {
        let (best, least) = self.usual.unwrap_or((rate, quiet));
        self.usual = Some((best.max(rate), least.min(quiet)));
    }

    pub(super) fn judge(&mut self, look: &Look) -> DiskState {
        let is_long = look.expected_ns > 0 && look.nanos as f64 >= LONG * look.expected_ns as f64;
        let Some(device) = look.device else {
            return if is_long {
                DiskState::Unseen
            } else {
                DiskState::Steady
            };
        };
        let request_ns = device.nanos as f64 / device.requests as f64;
        let at_device = device.nanos as f64 / look.ns as f64;
        let own = look.nanos as f64 / look.ns as f64;
        let per_piece = device.requests as f64 / look.pieces as f64;
        self.per_piece = self.per_piece.min(per_piece.max(1.0));
        self.request_ns = self.request_ns.min(request_ns);
        // Usual or not: what is not spent at the device is spent in a queue above it.
        let each = look.nanos as f64 / look.pieces as f64;
        let waits_above = each >= LONG * request_ns && each - request_ns >= ABOVE_NS;
        let takes_long = request_ns >= (LONG * self.request_ns).min(SLOW_NS);
        let has_others = at_device > 2.0 * own * self.per_piece + SLACK;
        match (takes_long, has_others) {
            (true, false) => DiskState::Slow,
            (true, true) => DiskState::Busy,
            (false, _) if is_long || waits_above => DiskState::Busy,
            (false, _) => DiskState::Steady,
        }
    }
}
