//! The path in simulation: faults, order of classes, quarantine.

mod disk;
mod tier;

use super::*;
use crate::block::{BlockSpec, Run};
use crate::checksum::SumStore;
use crate::clock::{Clock, VirtualClock};
use crate::sim::{Link, MemoryFiles, SimDriver, SplitMix};
use crate::units::BytesPerSec;
use larder_sys::lease::SlotTable;
use larder_sys::mapping::Mapping;
use larder_sys::slot::State;
use larder_sys::space::Space;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(usize, MoveError)>>>, Arc<AtomicUsize>);

impl Outcome for Log {
    fn failed(&self, slot: usize, error: MoveError) {
        let is_closed = self.1.load(Ordering::Relaxed) > 0;
        assert!(is_closed || !error.is_capacity(), "closed before it fails");
        self.0.lock().push((slot, error));
    }

    fn closed(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

struct World {
    clock: VirtualClock,
    path: Path,
    table: Arc<SlotTable>,
    space: Arc<Space>,
    files: MemoryFiles,
    log: Log,
}

fn world(seed: u64, link: Link, limit: Option<f64>) -> World {
    let mut random = SplitMix(seed);
    let data: Vec<u8> = (0..2_000_000).map(|_| random.next_u64() as u8).collect();
    let files = MemoryFiles::new(vec![data]);
    let clock = VirtualClock::default();
    let log = Log::default();
    let parts = PathParts {
        name: "origin>dram".to_owned(),
        driver: Box::new(SimDriver::new(files.clone(), clock.clone(), link, seed)),
        source: Box::new(files.clone()),
        limit: limit.and_then(BytesPerSec::new),
        bounce: None,
        disk: None,
    };
    let around = Around {
        clock: Arc::new(clock.clone()),
        outcome: Box::new(log.clone()),
        counters: Arc::default(),
        sums: Arc::default(),
    };
    let path = Path::new(parts, around);
    let space = Space::mapped(Mapping::new(4 << 20).expect("memory"));
    World {
        clock,
        path,
        table: SlotTable::new(64),
        space,
        files,
        log,
    }
}

fn link(error: f64, short: f64, flip: f64) -> Link {
    let bandwidth = BytesPerSec::new(1e9).expect("positive");
    Link {
        latency_ns: 100_000,
        bandwidth,
        error,
        short,
        flip,
    }
}

impl World {
    fn want(&mut self, slot: usize, class: Class, offset: u64, len: u64) {
        let spec = Arc::new(BlockSpec::from_ranges(&[Run {
            file: 0,
            offset,
            len,
        }]));
        let extent = self.space.alloc_low(spec.extent_bytes()).expect("room");
        let fill = self.table.begin_fill(slot, extent).expect("absent");
        let block = BlockId::new(slot as u32);
        self.path.want(Want {
            block,
            spec,
            class,
            due: slot as u64,
            fill,
            is_checked: true,
            pinned: None,
        });
    }

    fn run_until_idle(&mut self) {
        let mut turns = 0;
        while self.path.open_moves() > 0 {
            self.path
                .step(Duration::from_millis(1))
                .expect("simulation has no i/o errors");
            turns += 1;
            assert!(turns < 100_000, "every move ends");
        }
    }

    /// Evicts what is there after comparing it with the file; says whether the slot was ready.
    fn take(&mut self, slot: usize, offset: u64, len: u64) -> bool {
        let Some(lease) = self.table.pin(slot) else {
            return false;
        };
        assert!(
            lease.part(0) == self.files.bytes(0, offset, len),
            "a ready block has the file's bytes"
        );
        drop(lease);
        self.table.evict(slot).is_some()
    }
}

/// Injected faults never become wrong bytes, never leak, never hang. A flip at the very first read
/// of a model file cannot be seen (there is nothing to compare with), so blocks are read once
/// without faults before.
#[test]
fn faults_never_become_wrong_bytes() {
    for seed in 0..60 {
        let mut world = world(seed, link(0.0, 0.0, 0.0), None);
        let places: Vec<(u64, u64)> = (0..6)
            .map(|i| (i * 300_000 + seed * 13, 200_000 + i * 1000))
            .collect();
        for (slot, &(offset, len)) in places.iter().enumerate() {
            world.want(slot, Class::Prefetch, offset, len);
        }
        world.run_until_idle();
        for (slot, &(offset, len)) in places.iter().enumerate() {
            assert!(world.take(slot, offset, len));
        }
        let faulty = link(0.2, 0.2, 0.1);
        let driver = SimDriver::new(world.files.clone(), world.clock.clone(), faulty, seed);
        world.path.driver = Box::new(driver);
        for (slot, &(offset, len)) in places.iter().enumerate() {
            world.want(slot, Class::Prefetch, offset, len);
        }
        world.run_until_idle();
        for (slot, &(offset, len)) in places.iter().enumerate() {
            let ready = world.take(slot, offset, len);
            let failed = world.log.0.lock().iter().any(|(at, _)| *at == slot);
            assert!(
                ready != failed,
                "seed {seed}: a move either arrives or says why not"
            );
            world.table.clear_poison(slot);
            assert_eq!(world.table.state(slot), State::Absent);
        }
        assert_eq!(world.space.used_bytes(), 0, "seed {seed}: no extent leaks");
    }
}

#[test]
fn a_demand_overtakes_what_is_not_yet_submitted() {
    let mut world = world(1, link(0.0, 0.0, 0.0), Some(20e6));
    for slot in 0..4 {
        world.want(slot, Class::Prefetch, slot as u64 * 400_000, 400_000);
    }
    world.path.step(Duration::from_micros(1)).expect("step");
    world.want(9, Class::Demand, 100, 50_000);
    let mut first = None;
    while first.is_none() {
        world.path.step(Duration::from_millis(1)).expect("step");
        first = (0..10).find(|&slot| world.table.state(slot) == State::Ready);
    }
    assert_eq!(first, Some(9));
    world.path.raise(3);
    world.run_until_idle();
    assert!((0..4).all(|slot| world.table.state(slot) == State::Ready));
}

#[test]
fn a_cancelled_move_stays_in_quarantine_until_its_pieces_are_home() {
    let mut world = world(2, link(0.0, 0.0, 0.0), None);
    world.want(0, Class::Prefetch, 0, 1_500_000);
    world.path.step(Duration::ZERO).expect("step");
    world.path.cancel(0);
    assert_eq!(world.table.state(0), State::Absent);
    assert!(world.space.used_bytes() > 0, "pieces are in flight");
    world.run_until_idle();
    assert_eq!(world.space.used_bytes(), 0);
    assert_eq!(world.table.state(0), State::Absent);
}

#[test]
fn the_busy_share_tells_a_full_link_from_an_idle_one() {
    let mut world = world(3, link(0.0, 0.0, 0.0), Some(10e6));
    world.want(0, Class::Prefetch, 0, 1_000_000);
    world.run_until_idle();
    let busy = world.path.around.counters.busy_ns.load(Ordering::Relaxed) as f64;
    let total = world.clock.now().get() as f64;
    assert!(busy / total > 0.9, "{busy} of {total}");
}
