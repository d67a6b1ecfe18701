//! The timeline: virtual time, and whose turn it is.
//!
//! Each actor has an alarm: the time at which it has something to do next. One that is due is
//! drawn and takes its turn; when none is due, time moves to the next alarm. So a run depends on
//! its seed only, and whoever waits for ever is found out.

use super::random::SplitMix;
use crate::clock::{Clock, VirtualClock};
use crate::turns::{Actor, Turns};
use crate::units::Nanos;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

/// No alarm.
const NEVER: u64 = u64::MAX;
/// The seat of nobody.
const NOBODY: usize = usize::MAX;
/// Turns of actors, and virtual time, in which whoever waits must have what it waits for.
const TURNS_MAX: u64 = 2_000_000;
const PATIENCE_NS: u64 = 600_000_000_000;

/// See the module; clones share it.
#[derive(Clone)]
pub struct Timeline(Arc<Shared>);

struct Shared {
    clock: VirtualClock,
    /// Whose turn it is.
    current: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    actors: Vec<Option<Box<dyn Actor>>>,
    alarms: Vec<u64>,
    /// Places of actors that have ended.
    ended: Vec<usize>,
    random: SplitMix,
    turns: u64,
    /// Turns and time when somebody last got what it waited for.
    marked: (u64, u64),
    /// Stands for everything that has happened.
    trace: u64,
}

impl Timeline {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Shared {
            clock: VirtualClock::default(),
            current: AtomicUsize::new(NOBODY),
            state: Mutex::new(State {
                actors: Vec::new(),
                alarms: Vec::new(),
                ended: Vec::new(),
                random: SplitMix(seed),
                turns: 0,
                marked: (0, 0),
                trace: seed,
            }),
        }))
    }

    /// A seat for something that waits inside an actor.
    pub fn seat(&self) -> Seat {
        Seat {
            timeline: self.clone(),
            actor: Arc::new(AtomicUsize::new(NOBODY)),
        }
    }

    /// Whoever waited has what it waited for.
    pub fn mark(&self) {
        let now = self.now().get();
        let mut state = self.0.state.lock();
        state.marked = (state.turns, now);
    }

    /// Time jumps on by `ns` nanoseconds.
    pub fn jump(&self, ns: u64) {
        self.0
            .clock
            .advance_to(Nanos::new(self.now().get().saturating_add(ns)));
    }

    /// Gives turns until `ns` nanoseconds have gone by; nobody waits for anything meanwhile.
    pub fn run_for(&self, ns: u64) {
        self.mark();
        let end = self.now().get() + ns;
        while self.now().get() < end {
            let left = (end - self.now().get()).min(PATIENCE_NS / 2);
            self.rest(Duration::from_nanos(left));
            self.mark();
        }
    }

    /// Does `act` in `ns` nanoseconds.
    pub fn after(&self, ns: u64, act: impl FnOnce() + Send + 'static) {
        let at = self.now().get() + ns;
        let mut state = self.0.state.lock();
        let id = state.add(Box::new(Event(Some(act))));
        state.alarms[id] = at;
    }

    /// Turns taken, and a number that stands for everything that has happened.
    pub fn trace(&self) -> (u64, u64) {
        let state = self.0.state.lock();
        (state.turns, state.trace)
    }

    /// Mixes what somebody saw into the trace.
    pub fn note(&self, value: u64) {
        let mut state = self.0.state.lock();
        state.trace = SplitMix(state.trace ^ value).next_u64();
    }

    /// Drops every actor.
    pub fn clear(&self) {
        let actors = std::mem::take(&mut self.0.state.lock().actors);
        drop(actors);
    }

    fn set_alarm(&self, actor: usize, at: u64) {
        if let Some(alarm) = self.0.state.lock().alarms.get_mut(actor) {
            *alarm = at;
        }
    }

    fn lower_alarm(&self, actor: usize, at: u64) {
        if let Some(alarm) = self.0.state.lock().alarms.get_mut(actor) {
            *alarm = at.min(*alarm);
        }
    }
}

/// Does nothing, so that time stops at its alarm.
struct Sleeper;

impl Actor for Sleeper {
    fn turn(&mut self) -> bool {
        false
    }
}

/// Does one thing at its alarm.
struct Event<F>(Option<F>);

impl<F: FnOnce() + Send> Actor for Event<F> {
    fn turn(&mut self) -> bool {
        if let Some(act) = self.0.take() {
            act();
        }
        false
    }
}

impl State {
    /// A place for an actor, that of one that has ended if there is such.
    fn add(&mut self, actor: Box<dyn Actor>) -> usize {
        if let Some(id) = self.ended.pop() {
            (self.actors[id], self.alarms[id]) = (Some(actor), 0);
            return id;
        }
        self.actors.push(Some(actor));
        self.alarms.push(0);
        self.actors.len() - 1
    }

    /// Draws one of those that are due at `now`.
    fn draw(&mut self, now: u64) -> Option<usize> {
        let due = |&(_, &at): &(usize, &u64)| at <= now;
        let count = self.alarms.iter().enumerate().filter(due).count() as u64;
        if count == 0 {
            return None;
        }
        let number = self.random.next_u64() % count;
        let mut alarms = self.alarms.iter().enumerate().filter(due);
        alarms.nth(number as usize).map(|(actor, _)| actor)
    }
}

impl Clock for Timeline {
    fn now(&self) -> Nanos {
        self.0.clock.now()
    }
}

impl Turns for Timeline {
    fn join(&self, actor: Box<dyn Actor>) {
        self.0.state.lock().add(actor);
    }

    fn rest(&self, time: Duration) {
        let end = self.now().get() + time.as_nanos() as u64;
        let mut state = self.0.state.lock();
        let id = state.add(Box::new(Sleeper));
        state.alarms[id] = end;
        drop(state);
        while self.now().get() < end {
            self.pass();
        }
    }

    fn pass(&self) {
        let (id, mut actor) = {
            let mut state = self.0.state.lock();
            let now = self.now().get();
            let (turns, time) = (state.turns - state.marked.0, now - state.marked.1);
            assert!(
                turns < TURNS_MAX && time < PATIENCE_NS,
                "hang: somebody waits for ever, after {turns} turns and {} s",
                time / 1_000_000_000
            );
            let Some(id) = state.draw(now) else {
                let next = state.alarms.iter().copied().min().unwrap_or(NEVER);
                assert!(next < NEVER, "hang: nobody will ever do anything");
                drop(state);
                self.0.clock.advance_to(Nanos::new(next));
                return;
            };
            state.turns += 1;
            state.trace = SplitMix(state.trace ^ now ^ ((id as u64) << 48)).next_u64();
            state.alarms[id] = NEVER;
            let Some(actor) = state.actors[id].take() else {
                return;
            };
            (id, actor)
        };
        self.0.current.store(id, Ordering::Relaxed);
        let goes_on = actor.turn();
        self.0.current.store(NOBODY, Ordering::Relaxed);
        if goes_on {
            self.0.state.lock().actors[id] = Some(actor);
        } else {
            let mut state = self.0.state.lock();
            state.alarms[id] = NEVER;
            state.ended.push(id);
            drop(state);
            drop(actor);
        }
    }
}

/// What a simulated part waits with: it says until when, and others can wake it.
#[derive(Clone)]
pub struct Seat {
    timeline: Timeline,
    /// The actor that it is part of, known from its first wait on.
    actor: Arc<AtomicUsize>,
}

impl Seat {
    /// It has something to do at `at`, and nothing before unless somebody wakes it.
    pub fn wait_until(&self, at: Nanos) {
        let current = self.timeline.0.current.load(Ordering::Relaxed);
        if current != NOBODY {
            self.actor.store(current, Ordering::Relaxed);
        }
        let actor = self.actor.load(Ordering::Relaxed);
        self.timeline.set_alarm(actor, at.get());
    }

    /// It has something to do at `at`, perhaps something else before.
    pub fn wake_at(&self, at: Nanos) {
        let actor = self.actor.load(Ordering::Relaxed);
        self.timeline.lower_alarm(actor, at.get());
    }
}

impl Clock for Seat {
    fn now(&self) -> Nanos {
        self.timeline.now()
    }
}

impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_at(self.now());
    }
}

/// How a simulated driver waits: in a timeline for its turn, else by moving its own clock.
pub trait Waits: Clock {
    /// Nothing happens before `at` unless somebody wakes it.
    fn wait_until(&self, at: Nanos);

    fn waker(&self) -> Waker;
}

impl Waits for VirtualClock {
    fn wait_until(&self, at: Nanos) {
        self.advance_to(at);
    }

    fn waker(&self) -> Waker {
        Waker::noop().clone()
    }
}

impl Waits for Seat {
    fn wait_until(&self, at: Nanos) {
        Self::wait_until(self, at);
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::new(self.clone()))
    }
}
