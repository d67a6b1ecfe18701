//! What a path to a disk learns of it: its window, and whether it is steady, busy or slow.
//!
//! Two clocks look at the same operations. The path's own runs from submission to completion and
//! holds every queue on the way. The device's runs from issue to completion of its requests, where
//! somebody can see that far down. A piece that is alone in flight shows what the disk takes
//! without a queue; where none is alone for a while, one is made so, as BBR does (Cardwell et al.,
//! ACM Queue 2016): new pieces wait until nothing is in flight, for one latency per second.

use super::counters::PathCounters;
use super::health::{Health, Look};
use super::meter::{DeviceMeter, DeviceTotals};
use super::window::{Range, Window};
use crate::units::Nanos;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How the bytes in flight of a path are sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizing {
    /// By bandwidth alone: what it carries in 4 ms, 4 MiB at most.
    Fixed,
    /// By what the disk answers: from the bandwidth-delay product to 4 MiB.
    Latency,
}

/// What a path to a disk has beside others.
pub struct DiskParts {
    pub sizing: Sizing,
    pub meter: Option<Box<dyn DeviceMeter>>,
    /// What the reader of a report should know of it.
    pub note: Option<String>,
}

/// Most bytes in flight on any path, whatever sizes its window.
pub(super) const WINDOW_MAX: u64 = 4 << 20;
/// A round ends when the window was full for so long and brought so many pieces.
const ROUND_NS: u64 = 25_000_000;
const ROUND_PIECES: u64 = 16;
/// Time between two looks at the health of the disk, at least.
const LOOK_NS: u64 = 100_000_000;
/// Pieces that a look has at least.
const LOOK_PIECES: u64 = 8;
/// A piece alone is wanted so long after the last one; sooner until `QUIET_FIRST` were seen.
const QUIET_NS: u64 = 1_000_000_000;
const QUIET_FIRST_NS: u64 = 50_000_000;
const QUIET_FIRST: usize = 5;
/// Time between two reads of the meter for pieces alone, at least.
const METER_NS: u64 = 5_000_000;
/// Head room above the bandwidth-delay product.
const HEAD_ROOM: f64 = 1.25;

/// The last values of something.
#[derive(Debug)]
struct Recent<const N: usize> {
    values: [f64; N],
    count: usize,
}

impl<const N: usize> Recent<N> {
    const fn new() -> Self {
        Self {
            values: [0.0; N],
            count: 0,
        }
    }

    fn push(&mut self, value: f64) {
        self.values[self.count % N] = value;
        self.count += 1;
    }

    fn known(&self) -> &[f64] {
        &self.values[..self.count.min(N)]
    }

    fn most(&self) -> Option<f64> {
        self.known().iter().copied().reduce(f64::max)
    }

    fn median(&self) -> Option<f64> {
        let mut sorted = self.known().to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// When an operation started, and the bytes in flight then, its own among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) started: Nanos,
    pub(super) ahead: u64,
}

/// Time in which the window was full, and what came in it.
#[derive(Default)]
struct Round {
    ns: u64,
    bytes: u64,
    pieces: u64,
}

/// A piece that was alone when it started.
struct Alone {
    started: Nanos,
    totals: Option<DeviceTotals>,
}

/// See the module.
pub(super) struct DiskPace {
    sizing: Sizing,
    meter: Option<Box<dyn DeviceMeter>>,
    counters: Arc<PathCounters>,
    window: Window,
    health: Health,
    round: Round,
    /// Rates of the last rounds, in bytes per nanosecond.
    rates: Recent<10>,
    /// Nanoseconds that an operation alone takes beside those for its bytes.
    quiet: Recent<9>,
    /// Bytes that the link carries in that time, when it is known.
    delayed: f64,
    quiet_at: Nanos,
    metered_at: Nanos,
    alone: Option<Alone>,
    look: Look,
    look_at: (Nanos, Option<DeviceTotals>),
}

impl DiskPace {
    pub(super) fn new(parts: DiskParts, counters: Arc<PathCounters>, now: Nanos) -> Self {
        let mut meter = parts.meter;
        let totals = meter.as_mut().and_then(|meter| meter.totals());
        Self {
            sizing: parts.sizing,
            meter,
            counters,
            window: Window::new(),
            health: Health::new(),
            round: Round::default(),
            rates: Recent::new(),
            quiet: Recent::new(),
            delayed: 0.0,
            quiet_at: now,
            metered_at: now,
            alone: None,
            look: Look::default(),
            look_at: (now, totals),
        }
    }

    fn totals(&mut self) -> Option<DeviceTotals> {
        self.meter.as_mut().and_then(|meter| meter.totals())
    }

    /// Bytes that may be in flight, in pieces of `piece`, where bandwidth alone says `fixed`.
    pub(super) fn window_bytes(&self, piece: u64, fixed: u64) -> u64 {
        match self.sizing {
            Sizing::Fixed => fixed,
            Sizing::Latency => self.window.pieces(self.range(piece, fixed)) * piece,
        }
    }

    /// From the bandwidth-delay product with head room, which is the bytes that the link carries
    /// while an operation takes its time, and the piece itself, to the largest window there is.
    fn range(&self, piece: u64, fixed: u64) -> Range {
        let product = HEAD_ROOM * (self.delayed + piece as f64);
        Range {
            floor: (product / piece as f64).ceil() as u64,
            first: fixed / piece,
            most: WINDOW_MAX / piece,
        }
    }

    /// Works the product out anew.
    fn learn(&mut self) {
        if let (Some(rate), Some(quiet)) = (self.rates.most(), self.quiet.median()) {
            self.delayed = rate * quiet;
        }
    }

    /// Nothing more should start before everything is home: it is time to see a piece alone.
    pub(super) fn wants_quiet(&self, now: Nanos) -> bool {
        let every = if self.quiet.count < QUIET_FIRST {
            QUIET_FIRST_NS
        } else {
            QUIET_NS
        };
        let is_wanted = self.sizing == Sizing::Latency && self.rates.count > 0;
        is_wanted && now.since(self.quiet_at) >= every
    }

    /// An operation starts while nothing else is in flight.
    pub(super) fn started_alone(&mut self, now: Nanos) {
        self.quiet_at = now;
        let is_read = now.since(self.metered_at) >= METER_NS;
        let totals = if is_read { self.totals() } else { None };
        if is_read {
            self.metered_at = now;
        }
        let started = now;
        self.alone = Some(Alone { started, totals });
    }

    /// An operation on `len` bytes has come home at its first try.
    pub(super) fn timed(&mut self, flight: Flight, len: u64, now: Nanos) {
        let nanos = now.since(flight.started);
        self.look.pieces += 1;
        self.look.nanos += nanos;
        if let Some((rate, quiet)) = self.health.usual() {
            self.look.expected_ns += (quiet + flight.ahead as f64 / rate) as u64;
        }
        let is_alone = |alone: &Alone| alone.started == flight.started && flight.ahead == len;
        let Some(alone) = self.alone.take_if(|alone| is_alone(alone)) else {
            return;
        };
        let Some(rate) = self.rates.most() else {
            return;
        };
        let own = (nanos as f64 - len as f64 / rate).max(0.0);
        let device = alone.totals.and_then(|before| self.device_ns(before));
        // Time above the device is a queue too, which a deeper one does not shorten.
        self.quiet
            .push(device.map_or(own, |device| device.min(own)));
        self.learn();
    }

    /// Mean time of the device's requests since `before`.
    fn device_ns(&mut self, before: DeviceTotals) -> Option<f64> {
        let done = self.totals()?.since(before);
        (done.requests > 0).then(|| done.nanos as f64 / done.requests as f64)
    }

    /// The window was full for `ns` nanoseconds more.
    pub(super) fn busy(&mut self, ns: u64) {
        self.round.ns += ns;
    }

    /// `len` bytes came while the window was full.
    pub(super) fn carried(&mut self, len: u64, piece: u64, fixed: u64) {
        self.round.bytes += len;
        self.round.pieces += 1;
        if self.round.ns < ROUND_NS || self.round.pieces < ROUND_PIECES {
            return;
        }
        let Round { ns, bytes, .. } = std::mem::take(&mut self.round);
        let rate = bytes as f64 / ns as f64;
        self.rates.push(rate);
        self.learn();
        self.window.round(rate, self.range(piece, fixed));
        let window = self.window_bytes(piece, fixed);
        self.counters.window_bytes.store(window, Ordering::Relaxed);
    }

    /// Looks at the health of the disk now and then.
    pub(super) fn look(&mut self, now: Nanos) {
        let (since, before) = self.look_at;
        if now.since(since) < LOOK_NS || self.look.pieces < LOOK_PIECES {
            return;
        }
        let totals = self.totals();
        let mut look = std::mem::take(&mut self.look);
        look.ns = now.since(since);
        let device = totals.zip(before).map(|(now, before)| now.since(before));
        look.device = device.filter(|done| done.requests > 0);
        self.look_at = (now, totals);
        if let (Some(rate), Some(quiet)) = (self.rates.most(), self.quiet.median()) {
            self.health.learn(rate, quiet);
        }
        let state = self.health.judge(&look);
        self.counters.health.count(state);
        if let Some(done) = look.device {
            let mean = done.nanos / done.requests;
            self.counters.device_ns.store(mean, Ordering::Relaxed);
        }
    }
}
