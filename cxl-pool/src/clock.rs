//! The clock: real time in the product, virtual time in simulation. Nothing below the binaries
//! asks the system for the time itself.

use crate::units::Nanos;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Monotonic time.
pub trait Clock: Send + Sync {
    fn now(&self) -> Nanos;
}

/// Time since it was made.
#[derive(Debug)]
pub struct RealClock(Instant);

impl RealClock {
    #[expect(
        clippy::new_without_default,
        reason = "starting a clock is an act, not a default"
    )]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Nanos {
        Nanos::new(self.0.elapsed().as_nanos() as u64)
    }
}

/// Time that moves only when told to; clones share it.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    /// Moves on to `at`; earlier times are ignored.
    pub fn advance_to(&self, at: Nanos) {
        self.0.fetch_max(at.get(), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}
