//! Every schedule of a few leases: extents have one owner, whoever goes last.
//!
//! The space only counts; a payload stands for the bytes of its one granule, so that loom sees two
//! owners of an extent at once.
//!
//! Seen to fail, each change made by hand and taken back:
//! - `FillLease::drop` gives the extent back although a piece is out:
//!   `a_cancelled_fill_keeps_its_extent`.
//! - `ReadLease::clone` without a pin of its own; `ReadLease::drop` without the unpin:
//!   `the_last_lease_goes_while_evicting`.
//! - `begin_fill` without the look at the slot: `one_of_two_fills_is_refused`.
//! - `AppendLease::drop` that leaves the slot as it is: `a_tail_ends_for_who_waits`.

use super::*;
use crate::slot::PartRange;
use crate::space::{GRANULE, Space};
use crate::sync::{self, Cell, explore};
use loom::thread;
use smallvec::SmallVec;

/// A store of one slot and one extent, with the bytes of the extent.
struct Bench {
    table: Arc<SlotTable>,
    space: Arc<Space>,
    payload: sync::Arc<Cell<u32>>,
}

impl Bench {
    fn new() -> Self {
        Self {
            table: SlotTable::new(1),
            space: Space::counted(GRANULE),
            payload: sync::Arc::new(Cell::new(0)),
        }
    }

    fn share(&self) -> Self {
        Self {
            table: Arc::clone(&self.table),
            space: Arc::clone(&self.space),
            payload: sync::Arc::clone(&self.payload),
        }
    }

    fn extent(&self) -> Option<Extent> {
        self.space.alloc_low(GRANULE)
    }

    /// Writes the bytes, for who owns the extent.
    fn write(&self, number: u32) {
        // SAFETY: the caller owns the extent; loom checks that nobody else is there.
        self.payload
            .with_mut(|payload| unsafe { *payload = number });
    }

    /// Reads the bytes, for who has a lease.
    fn read(&self, _: &ReadLease) -> u32 {
        // SAFETY: the lease keeps writers away; loom checks that.
        self.payload.with(|payload| unsafe { *payload })
    }

    /// Fills and publishes the slot, if there is room and nobody else does.
    fn fill(&self, number: u32) -> bool {
        let Some(extent) = self.extent() else {
            return false;
        };
        let Ok(mut fill) = self.table.begin_fill(0, extent) else {
            return false;
        };
        let piece = fill.cutter().cut(GRANULE);
        self.write(number);
        drop(piece);
        let whole = PartRange {
            offset: 0,
            len: GRANULE,
        };
        fill.publish(SmallVec::from_slice(&[whole]));
        true
    }
}

#[test]
fn the_last_lease_goes_while_evicting() {
    explore(|| {
        let bench = Bench::new();
        assert!(bench.fill(1));
        let lease = bench.table.pin(0).expect("ready");
        let evictor = {
            let bench = bench.share();
            thread::spawn(move || {
                let evicted = bench.table.evict(0);
                // Its extent is free again, and the next fill writes there.
                let evicted = evicted.map(drop).is_some();
                assert!(!evicted || bench.fill(2), "room for another");
                evicted
            })
        };
        let other = lease.clone();
        drop(lease);
        assert_eq!(bench.read(&other), 1);
        drop(other);
        let evicted = evictor.join().expect("no panic");
        let lease = bench.table.pin(0).expect("evicted or not, it is ready");
        assert_eq!(bench.read(&lease), 1 + u32::from(evicted));
        drop(lease);
        assert_eq!(bench.table.pins(0), 0);
        drop(bench.table.evict(0).expect("nobody reads it"));
        assert_eq!(bench.space.used_bytes(), 0);
    });
}

#[test]
fn a_cancelled_fill_keeps_its_extent() {
    explore(|| {
        let bench = Bench::new();
        let extent = bench.extent().expect("room");
        let mut fill = bench.table.begin_fill(0, extent).expect("absent");
        let piece = fill.cutter().cut(GRANULE);
        let device = {
            let bench = bench.share();
            thread::spawn(move || {
                bench.write(1);
                drop(piece);
            })
        };
        drop(fill);
        assert_eq!(bench.table.state(0), State::Absent);
        // Another block gets the bytes when the device is through, not before.
        bench.fill(2);
        device.join().expect("no panic");
        if bench.table.state(0) == State::Absent {
            assert!(bench.fill(2), "the last piece is home");
        }
        let lease = bench.table.pin(0).expect("ready");
        assert_eq!(bench.read(&lease), 2);
    });
}

#[test]
fn one_of_two_fills_is_refused() {
    explore(|| {
        let bench = Bench::new();
        let space = Space::counted(2 * GRANULE);
        let fill = |number: u32| {
            let (bench, space) = (bench.share(), Arc::clone(&space));
            move || {
                let extent = space.alloc_low(GRANULE).expect("room for two");
                let Ok(fill) = bench.table.begin_fill(0, extent) else {
                    return false;
                };
                bench.write(number);
                fill.publish(SmallVec::new());
                true
            }
        };
        let other = thread::spawn(fill(2));
        let first = fill(1)();
        let second = other.join().expect("no panic");
        assert!(first != second, "one of them");
        assert_eq!(space.used_bytes(), GRANULE, "the other extent came back");
        let lease = bench.table.pin(0).expect("ready");
        assert_eq!(bench.read(&lease), if first { 1 } else { 2 });
    });
}

/// A sequence drops its tail, or publishes it, while somebody waits to read it.
#[test]
fn a_tail_ends_for_who_waits() {
    fn with(end: fn(AppendLease), expected: Option<u32>) {
        explore(move || {
            let bench = Bench::new();
            let tail = Space::foreign(GRANULE).alloc_low(GRANULE).expect("room");
            let tail = bench.table.begin_append(0, tail).expect("absent");
            let reader = {
                let bench = bench.share();
                thread::spawn(move || {
                    while bench.table.wait_filled(0, Duration::MAX) == State::Filling {}
                    bench.table.pin(0).map(|lease| bench.read(&lease))
                })
            };
            bench.write(5);
            end(tail);
            assert_eq!(reader.join().expect("no panic"), expected);
        });
    }
    with(|tail| tail.publish(GRANULE), Some(5));
    with(drop, None);
}

/// Two threads take and give back: the sum is right and no granule has two owners.
#[test]
fn extents_have_one_owner() {
    explore(|| {
        let bench = Bench::new();
        let use_it = |number: u32| {
            let bench = bench.share();
            move || {
                let extent = bench.extent();
                if extent.is_some() {
                    bench.write(number);
                }
                extent.is_some()
            }
        };
        let other = thread::spawn(use_it(2));
        let first = use_it(1)();
        assert!(other.join().expect("no panic") || first);
        assert_eq!(
            (bench.space.used_bytes(), bench.space.largest_hole()),
            (0, GRANULE)
        );
    });
}
