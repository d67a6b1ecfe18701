//! Pressure on the memory of this host: how large the budget may be now.
//!
//! Others want memory too. If nothing gives way the kernel takes it: it swaps, reclaims, and at
//! last kills, most likely us, because we hold the most. So some room is always left, and when it
//! goes the budget goes first.
//!
//! 1. *Calm*: the budget is what it was at the start.
//! 2. *Pressed*: less room is left than the margin, or twice that while tasks are stalled for
//!    memory. At once the budget becomes what is in use, less what is missing to twice the margin.
//!    Where only stalls are told, an eighth goes.
//! 3. *Held*: it stays while there is pressure, and [`CALM`] longer.
//! 4. *Recovering*: it grows by an eighth at most, never into twice the margin, then waits for
//!    [`STEP`].
//!
//! It is never less than works, nor more than at the start. This is a state machine over a clock;
//! `watch` reads the kernel.

mod watch;

pub use watch::{FileGauge, HostGauge, PressureError};

use larder_pool::clock::Clock;
use larder_pool::units::Nanos;
use std::sync::Arc;
use std::time::Duration;

/// Time between two readings.
const LOOK: Duration = Duration::from_millis(50);
/// Time without pressure before the budget grows again, and between two steps of that.
const CALM: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_secs(1);
/// Share of the time in which tasks are stalled for memory that is pressure.
const STALLED_SHARE: f64 = 0.1;
/// The margin, as a share of the budget, and its bounds in bytes.
const MARGIN_SHARE: u64 = 16;
const MARGIN_LEAST: u64 = 32 << 20;
const MARGIN_MOST: u64 = 512 << 20;
/// The budget changes by one of so many parts where nothing says by how much it should.
const PARTS: u64 = 8;

/// What a gauge says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Bytes that can still be had; `None` if that is not known.
    pub room: Option<u64>,
    /// Time that tasks have been stalled for memory, since whenever; it only grows.
    pub stalled: Duration,
}

/// Who says what memory is like.
pub trait Gauge {
    fn read(&mut self) -> Reading;
}

/// What the budget is kept within, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub least: u64,
    pub most: u64,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// Times that the budget became less.
    pub shrunk: u64,
    /// Time in which it was less than at the start.
    pub under: Duration,
}

/// See the module.
pub struct Pressure {
    gauge: Box<dyn Gauge>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    budget: u64,
    /// The last look.
    looked: Nanos,
    stalled: Duration,
    /// When the budget may grow.
    calm_at: Nanos,
    story: Story,
}

impl Pressure {
    pub fn new(mut gauge: Box<dyn Gauge>, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        assert!(limits.least <= limits.most, "the least works");
        let (looked, stalled) = (clock.now(), gauge.read().stalled);
        Self {
            gauge,
            clock,
            limits,
            budget: limits.most,
            looked,
            stalled,
            calm_at: looked,
            story: Story::default(),
        }
    }

    /// Bytes that may be in use now.
    pub const fn budget(&self) -> u64 {
        self.budget
    }

    pub const fn story(&self) -> Story {
        self.story
    }

    /// Looks, if it is time to; `used` bytes are in use. `true` if the budget has changed.
    pub fn look(&mut self, used: u64) -> bool {
        let now = self.clock.now();
        let passed = Duration::from_nanos(now.since(self.looked));
        if passed < LOOK {
            return false;
        }
        self.looked = now;
        if self.budget < self.limits.most {
            self.story.under += passed;
        }
        let reading = self.gauge.read();
        let stalled = reading.stalled.saturating_sub(self.stalled);
        self.stalled = reading.stalled;
        let is_stalled = stalled >= passed.mul_f64(STALLED_SHARE);
        let before = self.budget;
        if let Some(missing) = self.missing(reading.room, is_stalled) {
            self.calm_at = after(now, CALM);
            let budget = before.min(used).saturating_sub(missing);
            self.budget = budget.max(self.limits.least).min(before);
            self.story.shrunk += u64::from(self.budget < before);
        } else if now >= self.calm_at && before < self.limits.most {
            self.budget = before + self.growth(reading.room).min(self.limits.most - before);
            self.calm_at = after(now, STEP);
        }
        self.budget != before
    }

    /// Bytes that the budget must become less by; `None` without pressure.
    fn missing(&self, room: Option<u64>, is_stalled: bool) -> Option<u64> {
        let margin = self.margin();
        match room {
            None => is_stalled.then(|| self.part()),
            Some(room) => {
                let wanted = if is_stalled { 2 * margin } else { margin };
                (room < wanted).then(|| 2 * margin - room)
            }
        }
    }

    /// Bytes by which the budget may grow. A little is not worth its way.
    fn growth(&self, room: Option<u64>) -> u64 {
        let Some(room) = room else {
            return self.part();
        };
        let margin = self.margin();
        match room.saturating_sub(2 * margin) {
            spare if spare < margin => 0,
            spare => spare.min(self.part()),
        }
    }

    /// Bytes that are left to others.
    fn margin(&self) -> u64 {
        (self.limits.most / MARGIN_SHARE).clamp(MARGIN_LEAST, MARGIN_MOST)
    }

    fn part(&self) -> u64 {
        (self.limits.most / PARTS).max(1)
    }
}

fn after(now: Nanos, time: Duration) -> Nanos {
    Nanos::new(now.get() + time.as_nanos() as u64)
}

#[cfg(test)]
mod tests;
