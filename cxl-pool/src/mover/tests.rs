//! The mover over real files: blocks arrive whole, errors reach who waits, nothing leaks.

use super::*;
use crate::block::Run;
use crate::clock::RealClock;
use crate::device::{IdleDriver, MemoryCopier};
use crate::source::Files;
use crate::units::BytesPerSec;
use larder_sys::driver::open_driver;
use larder_sys::file::SourceFile;
use larder_sys::io::{Done, Driver, Op};
use larder_sys::mapping::Mapping;
use larder_sys::space::Space;
use std::path::Path as FsPath;
use std::task::Waker;

struct Bench {
    folder: tempfile::TempDir,
    data: Vec<u8>,
    space: Arc<Space>,
    mover: Mover,
}

/// A driver whose device goes away with the first operation.
struct Broken {
    taken: Vec<Op>,
    idle: IdleDriver,
}

impl Driver for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn notes(&self) -> &[String] {
        &[]
    }

    fn depth(&self) -> usize {
        64
    }

    fn submit(&mut self, op: Op) -> Result<(), Op> {
        self.taken.push(op);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> std::io::Result<()> {
        if self.taken.is_empty() {
            return self.idle.reap(done, wait);
        }
        Err(std::io::Error::other("the device is gone"))
    }

    fn waker(&self) -> Waker {
        self.idle.waker()
    }
}

fn bench(limit: Option<f64>) -> Bench {
    let folder = tempfile::tempdir().expect("temp folder");
    let data: Vec<u8> = (0..3_000_001u32).map(|i| (i ^ (i >> 9)) as u8).collect();
    let path = folder.path().join("model");
    std::fs::write(&path, &data).expect("write");
    let space = Space::mapped(Mapping::new(8 << 20).expect("memory"));
    let files = vec![Arc::new(SourceFile::open(&path).expect("opens"))];
    let parts = PathParts {
        name: "origin>dram".to_owned(),
        driver: open_driver(files.clone(), &space),
        source: Box::new(Files(files.clone())),
        limit: limit.and_then(BytesPerSec::new),
        bounce: None,
        disk: None,
    };
    let broken = PathParts {
        name: "broken>dram".to_owned(),
        driver: Box::new(Broken {
            taken: Vec::new(),
            idle: IdleDriver::new("broken"),
        }),
        source: Box::new(Files(files)),
        limit: None,
        bounce: None,
        disk: None,
    };
    let paths = vec![parts, broken];
    let mover =
        Mover::start(SlotTable::new(8), paths, Arc::new(RealClock::new())).expect("threads");
    Bench {
        folder,
        data,
        space,
        mover,
    }
}

fn ask(bench: &Bench, slot: usize, ranges: &[(u64, u64)]) -> bool {
    ask_over(bench, PathId::new(0), slot, ranges)
}

fn ask_over(bench: &Bench, path: PathId, slot: usize, ranges: &[(u64, u64)]) -> bool {
    let runs: Vec<Run> = ranges
        .iter()
        .map(|&(offset, len)| Run {
            file: 0,
            offset,
            len,
        })
        .collect();
    let spec = Arc::new(BlockSpec::from_ranges(&runs));
    let extent = bench.space.alloc_low(spec.extent_bytes()).expect("room");
    let request = Request {
        block: BlockId::new(slot as u32),
        slot,
        spec,
        class: Class::Prefetch,
        due: slot as u64,
        is_checked: true,
        pinned: None,
    };
    bench.mover.want(path, request, extent).is_ok()
}

#[test]
fn blocks_arrive_whole_and_again_after_eviction() {
    let bench = bench(None);
    let ranges = [(1_000_000, 1_900_000), (17, 40_000), (2_950_000, 50_001)];
    for _ in 0..3 {
        assert!(ask(&bench, 0, &ranges));
        assert!(ask(&bench, 1, &[(0, 5)]));
        let lease = bench.mover.wait(0).expect("arrives");
        for (part, &(offset, len)) in ranges.iter().enumerate() {
            assert!(lease.part(part) == &bench.data[offset as usize..(offset + len) as usize]);
        }
        assert_eq!(
            bench.mover.wait(1).expect("arrives").part(0),
            &bench.data[..5]
        );
        drop(lease);
        assert!(!ask(&bench, 0, &ranges), "already there");
        drop(bench.mover.table().evict(0));
        drop(bench.mover.table().evict(1));
        assert_eq!(bench.space.used_bytes(), 0);
    }
}

#[test]
fn a_limited_path_keeps_its_limit() {
    let bench = bench(Some(50e6));
    let start = std::time::Instant::now();
    assert!(ask(&bench, 0, &[(0, 3_000_000)]));
    drop(bench.mover.wait(0).expect("arrives"));
    let seconds = start.elapsed().as_secs_f64();
    // What was saved up before, and the last piece, are 4 ms each.
    assert!(seconds >= 3e6 / 50e6 - 8.1e-3, "{seconds}");
}

#[test]
fn a_cancelled_move_gives_its_extent_back() {
    let bench = bench(Some(1e6));
    assert!(ask(&bench, 0, &[(0, 3_000_000)]));
    assert!(ask(&bench, 1, &[(0, 3_000)]));
    bench.mover.cancel(0);
    assert!(bench.mover.wait(0).is_err());
    drop(bench.mover.wait(1).expect("the next one arrives"));
    drop(bench.mover.table().evict(1));
    let mut left = 5000;
    while bench.space.used_bytes() > 0 && left > 0 {
        left -= 1;
        std::thread::yield_now();
    }
    let Bench { mover, space, .. } = bench;
    drop(mover);
    assert_eq!(
        space.used_bytes(),
        0,
        "when the path has ended nothing is in quarantine"
    );
}

fn replace(path: &FsPath, data: &[u8]) {
    let next = path.with_extension("next");
    std::fs::write(&next, data).expect("write");
    std::fs::rename(&next, path).expect("rename");
}

#[test]
fn a_changed_or_cut_file_is_an_error_for_who_waits() {
    let bench = bench(None);
    let path = bench.folder.path().join("model");
    replace(&path, &bench.data);
    assert!(ask(&bench, 0, &[(0, 100_000)]));
    let error = bench.mover.wait(0).expect_err("replaced");
    assert!(error.to_string().contains("replaced"), "{error}");
    assert_eq!(
        bench.mover.table().state(0),
        State::Absent,
        "cleared for the next try"
    );
}

#[test]
fn a_path_that_ends_says_why_and_the_others_go_on() {
    let bench = bench(None);
    let broken = PathId::new(1);
    assert!(ask_over(&bench, broken, 2, &[(0, 100_000)]));
    let error = bench.mover.wait(2).expect_err("its device is gone");
    assert!(error.to_string().contains("device is gone"), "{error}");
    assert!(bench.mover.is_closed(broken) && !bench.mover.is_closed(PathId::new(0)));
    assert!(ask_over(&bench, broken, 3, &[(0, 100_000)]), "still taken");
    let error = bench.mover.wait(3).expect_err("but nobody serves it");
    assert!(error.to_string().contains("device is gone"), "{error}");
    assert!(ask(&bench, 3, &[(0, 100_000)]));
    drop(bench.mover.wait(3).expect("the other path lives"));
    drop(bench.mover.table().evict(3));
    let Bench { mover, space, .. } = bench;
    drop(mover);
    assert_eq!(space.used_bytes(), 0);
}

/// Two mapped tiers, as memory beside and behind an interconnect: the mover copies between them.
#[test]
fn mapped_tiers_are_copied_between() {
    let bench = bench(None);
    let cxl = Space::mapped(Mapping::new(4 << 20).expect("memory"));
    let copier = Box::new(MemoryCopier::default());
    let path = PathParts::memory("dram>cxl".to_owned(), copier, None);
    let table = Arc::clone(bench.mover.table());
    assert!(ask(&bench, 0, &[(5, 2_500_000)]));
    drop(bench.mover.wait(0).expect("arrives"));
    let mover =
        Mover::start(Arc::clone(&table), vec![path], Arc::new(RealClock::new())).expect("threads");
    let store = Store {
        block: BlockId::new(0),
        from: table.pin(0).expect("ready"),
        slot: 2,
        class: Class::Demote,
        due: 0,
    };
    let target = cxl.alloc_low(store.from.extent().1).expect("room");
    assert!(mover.store(PathId::new(0), store, target).is_ok());
    let lease = mover.wait(2).expect("copied");
    assert!(lease.part(0) == &bench.data[5..2_500_005]);
    drop(lease);
    assert!(table.evict(0).is_some() && mover.free(PathId::new(0), 2));
    drop((bench.mover, mover));
    assert_eq!((bench.space.used_bytes(), cxl.used_bytes()), (0, 0));
}
