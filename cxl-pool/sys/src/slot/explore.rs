//! Every schedule of a few threads on one slot.
//!
//! Beside the slot stands a payload: the bytes of the extent, which the slot's protocol alone
//! keeps apart. loom fails a test that lets two threads at it, or at the record, without a
//! happens-before between them.
//!
//! Seen to fail, each change made by hand and taken back:
//! - `publish` stores with `Relaxed`, or before the record is written; `pin` takes with `Relaxed`:
//!   `readers_see_whole_records`.
//! - `pin` without the look at the state, `unpin` with `Relaxed`, `evict` with `Relaxed` or without
//!   the look at the pins: `eviction_waits_for_readers`.
//! - `begin_fill` or the last store of `evict` with `Relaxed`: `a_slot_changes_hands`.
//! - `end_fill` with `Relaxed`: `two_fillers`.
//! - no wake in `publish`, none in `end_fill`, the wake before the store: `waiters_wake`.
//! - `end_fill` keeps the generation: `a_waiter_does_not_wait_for_the_next_fill`.
//! - `clear_poison` with a plain store: `poison_is_cleared_once`.

use super::*;
use crate::space::Space;
use crate::sync::{Arc, explore};
use loom::thread;

/// How long nobody waits: waits have no end here.
const FOR_EVER: Duration = Duration::MAX;

struct Bench {
    slot: Slot,
    payload: Cell<u32>,
}

fn record(number: u32) -> Record {
    let extent = Space::counted(4096).alloc_low(1).expect("one granule");
    let part = PartRange {
        offset: 0,
        len: u64::from(number),
    };
    let parts = SmallVec::from_slice(&[part]);
    Record { parts, extent }
}

impl Bench {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::new(),
            payload: Cell::new(0),
        })
    }

    fn ready(number: u32) -> Arc<Self> {
        let bench = Self::new();
        assert!(bench.slot.begin_fill());
        bench.fill(number);
        bench
    }

    /// Writes what the fill is about and publishes it.
    fn fill(&self, number: u32) {
        self.write(number);
        self.slot.publish(record(number));
    }

    /// Writes the payload, as who fills does.
    fn write(&self, number: u32) {
        // SAFETY: the caller owns the fill or the evicted record; loom checks that.
        self.payload
            .with_mut(|payload| unsafe { *payload = number });
    }

    /// Reads under a pin, if there is one to be had; the number.
    fn read(&self) -> Option<u32> {
        if !self.slot.pin() {
            return None;
        }
        // SAFETY: pinned until the end of this function.
        let record = unsafe { self.slot.record() };
        let number = record.parts[0].len as u32;
        assert_eq!(self.slot.state(), State::Ready, "pinned slots stay ready");
        // SAFETY: as above; loom checks that nobody writes.
        let payload = self.payload.with(|payload| unsafe { *payload });
        assert_eq!(payload, number, "the payload is the record's");
        // SAFETY: still pinned.
        let again = unsafe { self.slot.record() };
        assert_eq!(again.parts[0].len as u32, number, "nothing moved");
        self.slot.unpin();
        Some(number)
    }

    fn evict(&self) -> bool {
        self.slot.evict().is_some()
    }
}

/// Runs `run` on a thread of its own.
fn start<T: 'static>(
    bench: &Arc<Bench>,
    run: impl FnOnce(&Bench) -> T + 'static,
) -> thread::JoinHandle<T> {
    let bench = Arc::clone(bench);
    thread::spawn(move || run(&bench))
}

#[test]
fn readers_see_whole_records() {
    explore(|| {
        let bench = Bench::new();
        let filler = start(&bench, |bench| {
            assert!(bench.slot.begin_fill());
            bench.fill(1);
        });
        let reader = start(&bench, Bench::read);
        assert!(matches!(bench.read(), None | Some(1)));
        filler.join().expect("no panic");
        reader.join().expect("no panic");
        assert_eq!(bench.read(), Some(1));
        assert_eq!(bench.slot.pins(), 0);
    });
}

/// Whoever of the two starts the schedules: loom turns a load and a later store of somebody else
/// around only if the store came first once.
#[test]
fn eviction_waits_for_readers() {
    /// Evicts, and writes over the bytes at once: they are the evictor's, nobody fills here.
    fn evict(bench: &Bench) -> bool {
        let evicted = bench.evict();
        if evicted {
            bench.write(7);
        }
        evicted
    }
    explore(|| {
        let bench = Bench::ready(1);
        let evictor = start(&bench, evict);
        let second = start(&bench, Bench::read);
        let read = (bench.read(), second.join().expect("no panic"));
        let evicted = evictor.join().expect("no panic");
        assert!(evicted || read.0.or(read.1).is_some());
        assert_eq!(bench.evict(), !evicted, "nobody pins it any more");
    });
    explore(|| {
        let bench = Bench::ready(1);
        let reader = start(&bench, Bench::read);
        let evicted = evict(&bench);
        assert!(reader.join().expect("no panic").is_some() || evicted);
    });
}

/// Two threads would evict, refill and read: each round has one owner at a time.
#[test]
fn a_slot_changes_hands() {
    explore(|| {
        let bench = Bench::ready(1);
        let turn = |number| {
            move |bench: &Bench| {
                let evicted = bench.evict();
                let begun = bench.slot.begin_fill();
                if begun {
                    bench.fill(number);
                }
                (evicted, begun)
            }
        };
        let first = start(&bench, turn(2));
        let second = turn(3)(&bench);
        let first = first.join().expect("no panic");
        assert!(first.0 || second.0, "the first to come evicts");
        assert!(first.1 || second.1, "and somebody fills");
        assert!(matches!(bench.read(), Some(2 | 3)));
    });
}

/// One fill at a time, whether it ends well or is given up.
#[test]
fn two_fillers() {
    explore(|| {
        let bench = Bench::new();
        let filler = start(&bench, |bench| {
            let begun = bench.slot.begin_fill();
            if begun {
                bench.fill(2);
            }
            begun
        });
        let begun = bench.slot.begin_fill();
        if begun {
            bench.write(1);
            bench.slot.end_fill(false);
        }
        let filled = filler.join().expect("no panic");
        assert!(begun || filled);
        let expected = if filled { State::Ready } else { State::Absent };
        assert_eq!(bench.slot.state(), expected);
    });
}

#[test]
fn waiters_wake() {
    fn with(end: fn(&Bench)) {
        explore(move || {
            let bench = Bench::new();
            assert!(bench.slot.begin_fill());
            let waiters = [(), ()].map(|()| {
                start(&bench, |bench| {
                    while bench.slot.wait_filled(FOR_EVER) == State::Filling {}
                    bench.read()
                })
            });
            end(&bench);
            for waiter in waiters {
                waiter.join().expect("no panic");
            }
        });
    }
    with(|bench| bench.fill(1));
    with(|bench| bench.slot.end_fill(true));
    with(|bench| bench.slot.end_fill(false));
}

/// Who saw a fill that was given up does not sleep because another has begun: that one ends only
/// after it.
#[test]
fn a_waiter_does_not_wait_for_the_next_fill() {
    explore(|| {
        let bench = Bench::new();
        assert!(bench.slot.begin_fill());
        // The two halves of `wait_filled`: the look is before the end of the fill.
        let seen = bench.slot.word.load(Ordering::Acquire) as u32;
        let waiter = start(&bench, move |bench| {
            futex::wait(&bench.slot.word, seen, FOR_EVER);
        });
        bench.slot.end_fill(false);
        assert!(bench.slot.begin_fill());
        waiter.join().expect("no panic");
        bench.fill(1);
        assert_eq!(bench.read(), Some(1));
    });
}

/// The poison of the first fill is cleared by two; the second fill fails too, and that poison
/// stays for whoever waits for it.
#[test]
fn poison_is_cleared_once() {
    explore(|| {
        let bench = Bench::new();
        assert!(bench.slot.begin_fill());
        bench.write(1);
        bench.slot.end_fill(true);
        assert!(!bench.slot.pin() && bench.slot.evict().is_none());
        let other = start(&bench, |bench| {
            bench.slot.clear_poison();
            bench.slot.state()
        });
        bench.slot.clear_poison();
        let begun = bench.slot.begin_fill();
        assert!(begun, "whoever cleared it, it is absent");
        bench.fill(2);
        assert_ne!(other.join().expect("no panic"), State::Poisoned);
        assert_eq!(bench.read(), Some(2));
    });
}

/// Everything at once: a filler, a reader, and one who evicts.
#[test]
fn fill_read_and_evict() {
    explore(|| {
        let bench = Bench::ready(1);
        let reader = start(&bench, |bench| {
            let mut read = bench.slot.wait_filled(FOR_EVER) == State::Ready;
            read &= bench.read().is_some();
            read
        });
        let filler = start(&bench, |bench| {
            if bench.slot.begin_fill() {
                bench.fill(2);
            }
        });
        bench.evict();
        reader.join().expect("no panic");
        filler.join().expect("no panic");
        assert_eq!(bench.slot.pins(), 0);
        assert!(matches!(bench.read(), None | Some(1 | 2)));
    });
}
