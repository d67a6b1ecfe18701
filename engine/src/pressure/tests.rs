//! Budgets under made-up readings on a made-up clock.

use super::*;
use larder_pool::clock::VirtualClock;
use std::cell::Cell;
use std::rc::Rc;

const MIB: u64 = 1 << 20;
const LIMITS: Limits = Limits {
    least: 200 * MIB,
    most: 1600 * MIB,
};
/// A sixteenth of the most.
const MARGIN: u64 = 100 * MIB;

#[derive(Clone, Default)]
struct MadeUp(Rc<Cell<Reading>>);

impl Gauge for MadeUp {
    fn read(&mut self) -> Reading {
        self.0.get()
    }
}

struct Bench {
    pressure: Pressure,
    clock: VirtualClock,
    told: MadeUp,
    /// The engine uses all that it may.
    used: u64,
}

impl Bench {
    fn new(room: Option<u64>) -> Self {
        let (clock, told) = (VirtualClock::default(), MadeUp::default());
        let stalled = Duration::from_secs(7);
        told.0.set(Reading { room, stalled });
        let gauge = Box::new(told.clone());
        Self {
            pressure: Pressure::new(gauge, Arc::new(clock.clone()), LIMITS),
            clock,
            told,
            used: LIMITS.most,
        }
    }

    /// `time` later with this room, in which tasks were stalled for that share of it.
    fn later(&mut self, time: Duration, room: Option<u64>, share: f64) -> bool {
        let stalled = self.told.0.get().stalled + time.mul_f64(share);
        self.told.0.set(Reading { room, stalled });
        let now = self.clock.now().get() + time.as_nanos() as u64;
        self.clock.advance_to(Nanos::new(now));
        let has_changed = self.pressure.look(self.used);
        self.used = self.pressure.budget();
        has_changed
    }

    fn budget(&self) -> u64 {
        self.pressure.budget()
    }
}

const TICK: Duration = Duration::from_millis(100);

#[test]
fn what_is_missing_goes_at_once_and_it_stays_while_pressure_lasts() {
    let mut bench = Bench::new(Some(MARGIN));
    assert!(!bench.later(TICK, Some(MARGIN), 0.0), "just enough");
    assert!(bench.later(TICK, Some(MARGIN - 30 * MIB), 0.0));
    assert_eq!(bench.budget(), LIMITS.most - MARGIN - 30 * MIB);
    // What is in use counts, not what might be.
    bench.used = 1000 * MIB;
    assert!(bench.later(TICK, Some(0), 0.0));
    assert_eq!(bench.budget(), 800 * MIB);
    // Room between the margin and twice it: neither less nor more, however long.
    for _ in 0..100 {
        assert!(!bench.later(TICK, Some(MARGIN + MIB), 0.0));
    }
    let story = bench.pressure.story();
    assert_eq!((story.shrunk, story.under), (2, TICK * 101));
}

#[test]
fn stalls_ask_for_more_room_but_shrink_nothing_while_there_is_plenty() {
    let mut bench = Bench::new(Some(1 << 40));
    assert!(
        !bench.later(TICK, Some(2 * MARGIN), 1.0),
        "others are short"
    );
    assert!(
        !bench.later(TICK, Some(2 * MARGIN - MIB), 0.05),
        "hardly any"
    );
    assert!(bench.later(TICK, Some(2 * MARGIN - MIB), 0.2));
    assert_eq!(bench.budget(), LIMITS.most - MIB);
}

#[test]
fn it_comes_back_in_steps_after_a_calm_time_and_not_into_the_margin() {
    let mut bench = Bench::new(Some(0));
    bench.later(TICK, Some(0), 0.0);
    let low = LIMITS.most - 2 * MARGIN;
    assert_eq!(bench.budget(), low);
    let plenty = Some(3 * MARGIN + 20 * MIB);
    assert!(
        !bench.later(CALM.saturating_sub(TICK), plenty, 0.0),
        "not yet"
    );
    assert!(bench.later(TICK, plenty, 0.0));
    assert_eq!(bench.budget(), low + MARGIN + 20 * MIB);
    assert!(
        !bench.later(STEP.saturating_sub(TICK), plenty, 0.0),
        "one step at a time"
    );
    // The room of the step is in use now.
    assert!(
        !bench.later(STEP, Some(2 * MARGIN), 0.0),
        "the margin is not ours"
    );
    assert!(bench.later(STEP, Some(1 << 40), 0.0));
    assert_eq!(bench.budget(), LIMITS.most, "and no more than at the start");
    let under = bench.pressure.story().under;
    for _ in 0..10 {
        assert!(!bench.later(STEP, Some(1 << 40), 0.0));
    }
    assert_eq!(bench.pressure.story().under, under);
}

#[test]
fn where_only_stalls_are_told_it_goes_and_comes_by_eighths_down_to_the_least() {
    let mut bench = Bench::new(None);
    for part in 1..=7 {
        assert!(bench.later(TICK, None, 0.5));
        assert_eq!(bench.budget(), LIMITS.most - part * 200 * MIB);
    }
    assert!(!bench.later(TICK, None, 0.5), "never under the least");
    assert_eq!(bench.budget(), LIMITS.least);
    assert_eq!(bench.pressure.story().shrunk, 7);
    assert!(!bench.later(CALM.saturating_sub(TICK), None, 0.0));
    for part in 1..=7 {
        assert!(bench.later(STEP, None, 0.0));
        assert_eq!(bench.budget(), LIMITS.least + part * 200 * MIB);
    }
    assert!(!bench.later(STEP, None, 0.0));
}

#[test]
fn looks_are_rare() {
    let mut bench = Bench::new(Some(0));
    assert!(!bench.later(LOOK / 2, Some(0), 1.0), "too early");
    assert!(bench.later(LOOK, Some(0), 1.0));
}

/// Whatever is told, the budget is within its limits, grows only after a calm time, and is less
/// whenever room is short and there is something to give.
#[test]
fn no_reading_drives_it_out_of_its_limits() {
    let mut random = larder_pool::sim::SplitMix(11);
    let mut bench = Bench::new(Some(0));
    let mut pressed_at = Duration::ZERO;
    let mut now = Duration::ZERO;
    for _ in 0..20_000 {
        let word = random.next_u64();
        let time = Duration::from_millis(50 + word % 2000);
        let room = Some((word >> 16) % (8 * MARGIN)).filter(|_| word >> 60 != 0);
        let share = ((word >> 40) % 30) as f64 / 100.0;
        let before = bench.budget();
        now += time;
        bench.later(time, room, share);
        let after = bench.budget();
        assert!((LIMITS.least..=LIMITS.most).contains(&after));
        let is_short = room.is_some_and(|room| room < MARGIN);
        assert!(!is_short || after < before || before == LIMITS.least);
        if is_short {
            pressed_at = now;
        }
        assert!(after <= before || now.saturating_sub(pressed_at) >= CALM);
    }
}
