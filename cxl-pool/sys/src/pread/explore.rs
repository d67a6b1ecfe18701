//! Every schedule of the owner of the driver and its threads; the reads are real ones.
//!
//! Seen to fail, each change made by hand and taken back:
//! - no notice of a completion, or of work: `every_operation_completes_once`.
//! - `Drop` without the notice: `a_dropped_driver_ends_when_its_reads_have`.
//! - `reap` that does not look at `woken`: `a_wake_before_the_wait_is_not_lost`.

use super::*;
use crate::lease::FillPiece;
use crate::mapping::Mapping;
use crate::space::{GRANULE, Space};
use crate::sync::explore;

const WAIT: Duration = Duration::MAX;

/// Runs `model` over a file of two granules, each full of its own number.
fn with_file(model: impl Fn(PreadDriver) + Send + Sync + 'static) {
    let folder = tempfile::tempdir().expect("temp folder");
    let path = folder.path().join("data");
    let data: Vec<u8> = (0..2 * GRANULE).map(|i| (1 + i / GRANULE) as u8).collect();
    std::fs::write(&path, data).expect("write");
    let files: Arc<[Arc<SourceFile>]> =
        vec![Arc::new(SourceFile::open(&path).expect("opens"))].into();
    explore(move || model(PreadDriver::new(&files, Vec::new())));
}

fn read(space: &Arc<Space>, tag: u64) -> Op {
    let extent = space.alloc_low(GRANULE).expect("room");
    Op {
        tag,
        file: 0,
        offset: tag * GRANULE,
        verb: Verb::Read(FillPiece::of(extent, GRANULE)),
    }
}

#[test]
fn every_operation_completes_once() {
    with_file(|mut driver| {
        let space = Space::mapped(Mapping::new(2 * GRANULE).expect("memory"));
        for tag in 0..2 {
            assert!(driver.submit(read(&space, tag)).is_ok());
        }
        let mut done = Vec::new();
        while done.len() < 2 {
            driver.reap(&mut done, WAIT).expect("reap");
        }
        drop(driver);
        let mut seen: Vec<u64> = done.iter().map(|one| one.tag).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
        for one in &done {
            let Verb::Read(piece) = &one.verb else {
                panic!("a read comes back as one");
            };
            assert_eq!(one.outcome, Ok(GRANULE as usize));
            let number = 1 + one.tag as u8;
            assert!(piece.bytes().iter().all(|&byte| byte == number));
        }
        drop(done);
        assert_eq!(space.used_bytes(), 0);
    });
}

#[test]
fn a_wake_before_the_wait_is_not_lost() {
    with_file(|mut driver| {
        let waker = driver.waker();
        let other = loom::thread::spawn(move || waker.wake());
        let mut done = Vec::new();
        driver.reap(&mut done, WAIT).expect("reap");
        other.join().expect("no panic");
        assert!(done.is_empty(), "nothing but the wake has come");
    });
}

#[test]
fn a_dropped_driver_ends_when_its_reads_have() {
    with_file(|mut driver| {
        let space = Space::mapped(Mapping::new(2 * GRANULE).expect("memory"));
        assert!(driver.submit(read(&space, 0)).is_ok());
        drop(driver);
        assert_eq!(space.used_bytes(), 0, "the piece is home");
    });
}
