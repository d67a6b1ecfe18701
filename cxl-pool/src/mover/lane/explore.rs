//! Schedules of callers and the thread of a path, by chance and by priority.
//!
//! The path and its moves are the real ones; the device is memory that completes everything at
//! once, or goes away. A wake that is lost leaves the thread asleep, which shuttle calls a
//! deadlock or a schedule without an end.
//!
//! Seen to fail, each change made by hand and taken back:
//! - `tell` without the wake, or with the wake before the command: `no_command_is_lost`.
//! - `tell` that does not look whether the thread has ended: `whoever_comes_late_learns_why`.
//! - the guard drops the commands that are left, or the thread those it had taken, before it says
//!   that it has ended: `an_absent_slot_has_a_cause`. The second was so until this test came.

use super::*;
use crate::block::{BlockSpec, Run};
use crate::checksum::SumStore;
use crate::clock::VirtualClock;
use crate::path::{Around, Outcome, PathParts};
use crate::sim::MemoryFiles;
use crate::transfer::{Class, MoveError};
use larder_sys::io::{Done, Driver, Op, Verb};
use larder_sys::lease::SlotTable;
use larder_sys::mapping::Mapping;
use larder_sys::slot::State;
use larder_sys::space::{GRANULE, Space};
use shuttle::sync::Condvar;
use shuttle::thread;
use std::io;
use std::task::Wake;

/// Steps of one schedule; one that needs more has no end.
const STEPS: usize = 20_000;

/// Tries `model` under many schedules; how many is said by `LARDER_EXPLORE_ROUNDS`.
fn explore(model: impl Fn() + Send + Sync + Copy + 'static) {
    let rounds = std::env::var("LARDER_EXPLORE_ROUNDS").ok();
    let rounds = rounds.map_or(300, |rounds| rounds.parse().expect("a number"));
    let mut config = shuttle::Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS);
    let random = shuttle::scheduler::RandomScheduler::new(rounds);
    shuttle::Runner::new(random, config.clone()).run(model);
    let priorities = shuttle::scheduler::PctScheduler::new(3, rounds);
    shuttle::Runner::new(priorities, config).run(model);
}

#[derive(Default)]
struct Alarm {
    woken: Mutex<bool>,
    news: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.news.notify_one();
    }
}

/// Reads of zeroes.
#[derive(Default)]
struct Memory {
    taken: Vec<Op>,
    /// Goes away with the first operation.
    is_broken: bool,
    alarm: Arc<Alarm>,
}

impl Driver for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn notes(&self) -> &[String] {
        &[]
    }

    fn depth(&self) -> usize {
        8
    }

    fn submit(&mut self, op: Op) -> Result<(), Op> {
        self.taken.push(op);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> io::Result<()> {
        if self.is_broken && !self.taken.is_empty() {
            return Err(io::Error::other("the device is gone"));
        }
        let mut woken = self.alarm.woken.lock();
        while self.taken.is_empty() && !*woken && !wait.is_zero() {
            woken = self.alarm.news.wait(woken).expect("no thread panicked");
        }
        *woken = false;
        drop(woken);
        done.extend(self.taken.drain(..).map(|op| {
            let outcome = Ok(match &op.verb {
                Verb::Read(piece) => piece.len(),
                Verb::Write(_) | Verb::Seal(_) | Verb::Free => 0,
            });
            Done {
                tag: op.tag,
                verb: op.verb,
                outcome,
            }
        }));
        Ok(())
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.alarm))
    }
}

struct Untold;

impl Outcome for Untold {
    fn failed(&self, slot: usize, error: MoveError) {
        panic!("slot {slot}: {error}");
    }

    fn closed(&self) {
        panic!("nothing is stored here");
    }
}

struct Bench {
    table: Arc<SlotTable>,
    space: Arc<Space>,
    lane: Arc<Lane>,
    thread: thread::JoinHandle<()>,
}

/// A table of `slots`, and the thread of a path.
fn start(slots: usize, is_broken: bool) -> Bench {
    let driver = Memory {
        is_broken,
        ..Memory::default()
    };
    let lane = Lane::new(driver.waker());
    let parts = PathParts {
        name: "memory>dram".to_owned(),
        driver: Box::new(driver),
        source: Box::new(MemoryFiles::new(vec![vec![0; GRANULE as usize]])),
        limit: None,
        bounce: None,
        disk: None,
    };
    let around = Around {
        clock: Arc::new(VirtualClock::default()),
        outcome: Box::new(Untold),
        counters: Arc::clone(&lane.counters),
        sums: Arc::<SumStore>::default(),
    };
    let mut path = Path::new(parts, around);
    let end = lane.end();
    let thread = thread::spawn(move || end.serve(&mut path, Duration::MAX));
    Bench {
        table: SlotTable::new(slots),
        space: Space::mapped(Mapping::new(slots as u64 * GRANULE).expect("memory")),
        lane: Arc::new(lane),
        thread,
    }
}

impl Bench {
    /// A command that fills `slot`.
    fn want(&self, slot: usize) -> Command {
        let run = Run {
            file: 0,
            offset: 0,
            len: 64,
        };
        let extent = self.space.alloc_low(GRANULE).expect("room");
        Command::Want(Want {
            block: BlockId::new(slot as u32),
            spec: Arc::new(BlockSpec::from_ranges(&[run])),
            class: Class::Demand,
            due: 0,
            fill: self.table.begin_fill(slot, extent).expect("absent"),
            is_checked: false,
            pinned: None,
        })
    }

    /// Ends the thread; nothing is left under way, and only ready slots hold bytes.
    fn end(self) {
        let Self {
            table,
            space,
            lane,
            thread,
        } = self;
        lane.tell(Command::Stop);
        thread.join().expect("no panic");
        assert!(lane.has_ended() && lane.cause().is_some());
        let ready = |&slot: &usize| table.state(slot) == State::Ready;
        let ready: Vec<usize> = (0..table.len()).filter(ready).collect();
        assert_eq!(space.used_bytes(), ready.len() as u64 * GRANULE);
        let filling = |slot: usize| table.state(slot) == State::Filling;
        assert!(!(0..table.len()).any(filling), "nothing is under way");
    }
}

/// Looks at `slot` until its fill has ended.
fn wait(table: &SlotTable, slot: usize) -> State {
    while table.state(slot) == State::Filling {
        thread::yield_now();
    }
    table.state(slot)
}

#[test]
fn no_command_is_lost() {
    explore(|| {
        let bench = start(3, false);
        let callers = [0, 1].map(|slot| {
            let (lane, want) = (Arc::clone(&bench.lane), bench.want(slot));
            thread::spawn(move || lane.tell(want))
        });
        bench.lane.tell(bench.want(2));
        bench.lane.tell(Command::Raise(2));
        for slot in [2, 0, 1] {
            assert_eq!(wait(&bench.table, slot), State::Ready);
        }
        for caller in callers {
            caller.join().expect("no panic");
        }
        bench.end();
    });
}

/// What was asked for before the stop, or after it, ends as a slot that is ready, or absent with a
/// cause to be had at once.
#[test]
fn an_absent_slot_has_a_cause() {
    fn with(is_broken: bool) {
        let bench = start(3, is_broken);
        let watchers = [0, 1, 2].map(|slot| {
            let (lane, want) = (Arc::clone(&bench.lane), bench.want(slot));
            let table = Arc::clone(&bench.table);
            let watched = Arc::clone(&bench.lane);
            let teller = thread::spawn(move || lane.tell(want));
            let watcher = thread::spawn(move || {
                let state = wait(&table, slot);
                assert!(state == State::Ready || watched.cause().is_some());
            });
            (teller, watcher)
        });
        bench.lane.tell(Command::Stop);
        for (teller, watcher) in watchers {
            teller.join().expect("no panic");
            watcher.join().expect("no panic");
        }
        bench.end();
    }
    explore(|| with(false));
    explore(|| with(true));
}

#[test]
fn whoever_comes_late_learns_why() {
    explore(|| {
        let bench = start(2, true);
        bench.lane.tell(bench.want(0));
        assert_eq!(wait(&bench.table, 0), State::Absent);
        bench.lane.tell(bench.want(1));
        assert_eq!(wait(&bench.table, 1), State::Absent);
        let cause = bench.lane.cause().expect("it has ended");
        assert_eq!(cause, "the device is gone");
        assert!(bench.lane.is_closed());
        bench.end();
    });
}

/// A cancelled move is over whatever the thread is doing, and the next one is served.
#[test]
fn a_cancel_meets_its_move() {
    explore(|| {
        let bench = start(2, false);
        let (lane, want) = (Arc::clone(&bench.lane), bench.want(0));
        let caller = thread::spawn(move || {
            lane.tell(want);
            lane.tell(Command::Cancel(0));
        });
        bench.lane.tell(bench.want(1));
        assert!(matches!(
            wait(&bench.table, 0),
            State::Ready | State::Absent
        ));
        assert_eq!(wait(&bench.table, 1), State::Ready);
        caller.join().expect("no panic");
        bench.end();
    });
}
