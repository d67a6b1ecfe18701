//! Windows of paths to disks, over made-up disks and a clock that is moved by hand.

use crate::path::disk::Flight;
use crate::path::pace::Pace;
use crate::path::{DeviceMeter, DeviceTotals, DiskParts, DiskState, PathCounters, Sizing};
use crate::sim::SplitMix;
use crate::units::Nanos;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;

/// A disk: requests wait for one of its lanes, take their latency there, then the link in turn.
#[derive(Clone, Copy)]
struct Model {
    latency_ns: u64,
    /// Bytes per nanosecond of the link.
    rate: f64,
    /// Requests whose latency passes at once.
    lanes: usize,
    /// Most that is added to a request's latency, drawn for each.
    jitter_ns: u64,
}

const FAST: Model = Model {
    latency_ns: 80_000,
    rate: 3.0,
    lanes: 32,
    jitter_ns: 0,
};

struct Totals(Arc<Mutex<DeviceTotals>>);

impl DeviceMeter for Totals {
    fn totals(&mut self) -> Option<DeviceTotals> {
        Some(*self.0.lock())
    }
}

/// A path's pace in front of a disk, with as much to read as there is room.
struct World {
    pace: Pace,
    counters: Arc<PathCounters>,
    totals: Arc<Mutex<DeviceTotals>>,
    random: SplitMix,
    model: Model,
    now: u64,
    /// When each lane of the disk is free, and the link behind them.
    lanes: Vec<u64>,
    link: u64,
    /// Bytes of others that stand in front of each request of ours.
    others: u64,
    /// Bytes that somebody else has in flight all the time, in a queue above the device.
    neighbour: u64,
    /// Time that each request waits above the device.
    above_ns: u64,
    in_flight: BTreeMap<(u64, u64), (Flight, u64, u64)>,
    order: u64,
    moved: u64,
}

impl World {
    fn new(model: Model, sizing: Sizing, is_seen: bool) -> Self {
        let counters = Arc::<PathCounters>::default();
        let totals = Arc::<Mutex<DeviceTotals>>::default();
        let meter = is_seen.then(|| Box::new(Totals(Arc::clone(&totals))) as _);
        let parts = DiskParts {
            sizing,
            meter,
            note: None,
        };
        let pace = Pace::new(Arc::clone(&counters), None, Some(parts), Nanos::default());
        Self {
            pace,
            counters,
            totals,
            random: SplitMix(7),
            model,
            now: 0,
            lanes: vec![0; model.lanes],
            link: 0,
            others: 0,
            neighbour: 0,
            above_ns: 0,
            in_flight: BTreeMap::new(),
            order: 0,
            moved: 0,
        }
    }

    /// Sends one piece; others' requests in front of it go through the device too.
    fn send(&mut self) {
        let len = self.pace.piece_bytes();
        let flight = self.pace.started(len, Nanos::new(self.now));
        let issued = self.now + self.above_ns;
        let lane = self.lanes.iter_mut().min().expect("a disk has lanes");
        let jitter = self.random.next_u64() % (self.model.jitter_ns + 1);
        *lane = issued.max(*lane) + self.model.latency_ns + jitter;
        let shared = len as f64 * self.neighbour as f64 / flight.ahead as f64;
        let carried = ((self.others + len) as f64 + shared) / self.model.rate;
        self.link = self.link.max(*lane) + carried as u64;
        let done = self.link;
        let mut totals = self.totals.lock();
        let requests = 1 + self.others / MIB;
        totals.requests += requests;
        totals.nanos += if self.neighbour > 0 {
            self.model.latency_ns + (len as f64 / self.model.rate) as u64
        } else {
            (done - issued) * requests
        };
        drop(totals);
        self.order += 1;
        self.in_flight
            .insert((done, self.order), (flight, len, issued));
    }

    fn run(&mut self, seconds: f64) -> f64 {
        let (from, before) = (self.now, self.moved);
        let end = from + (seconds * 1e9) as u64;
        while self.now < end {
            while self.pace.wait_ns(Nanos::new(self.now)) == 0 && self.pace.has_room() {
                self.send();
            }
            self.pace.hold_back(Nanos::new(self.now));
            let ((done, _), (flight, len, _)) =
                self.in_flight.pop_first().expect("something is in flight");
            self.now = self.now.max(done);
            let now = Nanos::new(self.now);
            self.pace.note_busy(now);
            self.pace.timed(flight, len, now);
            self.pace.ended(len);
            self.pace.moved(len);
            self.moved += len;
        }
        (self.moved - before) as f64 / (self.now - from) as f64
    }

    fn window(&self) -> u64 {
        self.counters.window_bytes.load(Ordering::Relaxed)
    }

    fn state(&self) -> Option<DiskState> {
        self.counters.health.state()
    }
}

/// Speed of a path, in bytes per nanosecond, when its window has settled.
fn settled(model: Model, sizing: Sizing) -> (f64, World) {
    let mut world = World::new(model, sizing, true);
    world.run(20.0);
    let rate = world.run(2.0);
    (rate, world)
}

#[test]
fn a_disk_that_needs_no_queue_gets_none() {
    let (fixed, world) = settled(FAST, Sizing::Fixed);
    assert_eq!(world.window(), 4 * MIB);
    let (rate, world) = settled(FAST, Sizing::Latency);
    assert_eq!(world.window(), 2 * MIB, "one under way, one behind it");
    assert!(rate > 0.98 * fixed, "{rate} of {fixed}");
    assert_eq!(world.state(), Some(DiskState::Steady));
}

#[test]
fn a_fast_link_with_a_long_latency_keeps_its_window() {
    let remote = Model {
        latency_ns: 900_000,
        ..FAST
    };
    let (fixed, _) = settled(remote, Sizing::Fixed);
    let (rate, world) = settled(remote, Sizing::Latency);
    assert_eq!(world.window(), 4 * MIB);
    assert!(rate > 0.98 * fixed, "{rate} of {fixed}");
}

#[test]
fn the_window_grows_again_when_more_carries_more() {
    let mut world = World::new(FAST, Sizing::Latency, true);
    world.run(20.0);
    assert_eq!(world.window(), 2 * MIB);
    world.model.latency_ns = 900_000;
    world.run(20.0);
    assert!(world.window() >= 3 * MIB, "{}", world.window());
    let rate = world.run(2.0);
    let mut fixed = World::new(world.model, Sizing::Fixed, true);
    fixed.run(2.0);
    let best = fixed.run(2.0);
    assert!(rate > 0.95 * best, "{rate} of {best}");
}

#[test]
fn beside_another_reader_the_window_takes_a_share_that_the_fixed_one_gives_away() {
    let run = |sizing| {
        let mut world = World::new(FAST, sizing, true);
        world.neighbour = 8 * MIB;
        world.run(20.0);
        let rate = world.run(2.0);
        (rate, world.window(), world.state())
    };
    let (fixed, small, _) = run(Sizing::Fixed);
    assert!(
        small < 4 * MIB,
        "less bandwidth, less window, less bandwidth: {small}"
    );
    let (rate, window, state) = run(Sizing::Latency);
    assert!(window > 3 * MIB && window <= 4 * MIB, "{window}");
    assert!(rate > 1.4 * fixed, "{rate} of {fixed}");
    assert_eq!(state, Some(DiskState::Busy));
}

#[test]
fn jitter_takes_no_throughput() {
    let jittery = Model {
        jitter_ns: 600_000,
        ..FAST
    };
    let (fixed, _) = settled(jittery, Sizing::Fixed);
    let (rate, world) = settled(jittery, Sizing::Latency);
    assert!(
        rate > 0.96 * fixed,
        "{rate} of {fixed}, window {}",
        world.window()
    );
}

#[test]
fn a_slow_device_is_slow_and_one_that_others_fill_is_busy() {
    let mut world = World::new(FAST, Sizing::Latency, true);
    world.run(2.0);
    assert_eq!(world.state(), Some(DiskState::Steady));
    world.model.latency_ns = 40_000_000;
    world.run(4.0);
    assert_eq!(world.state(), Some(DiskState::Slow));

    let mut world = World::new(FAST, Sizing::Latency, true);
    world.run(2.0);
    world.others = 16 * MIB;
    world.run(4.0);
    assert_eq!(world.state(), Some(DiskState::Busy), "others at the device");

    let mut world = World::new(FAST, Sizing::Latency, true);
    world.run(2.0);
    world.above_ns = 20_000_000;
    world.run(4.0);
    assert_eq!(world.state(), Some(DiskState::Busy), "a queue above it");
}

#[test]
fn without_a_meter_long_waits_are_told_and_not_explained() {
    let mut world = World::new(FAST, Sizing::Latency, false);
    world.run(20.0);
    assert_eq!(world.window(), 2 * MIB, "by the times of the path");
    assert_eq!(world.state(), Some(DiskState::Steady));
    world.above_ns = 20_000_000;
    world.run(40.0);
    assert_eq!(world.state(), Some(DiskState::Unseen));
}

#[test]
fn a_slow_link_keeps_two_pieces_in_flight() {
    let slow = Model { rate: 0.02, ..FAST };
    let (fixed, _) = settled(slow, Sizing::Fixed);
    let (rate, mut world) = settled(slow, Sizing::Latency);
    assert_eq!(world.window(), 2 * world.pace.piece_bytes());
    assert!(rate > 0.98 * fixed, "{rate} of {fixed}");
    world.run(1.0);
    assert_eq!(world.state(), Some(DiskState::Steady));
}
