//! Waits between tries, doubling up to a limit, each a little off so that many who failed together
//! do not try again together.

use crate::units::{GOLDEN, Nanos};

/// See the module.
#[derive(Clone, Debug)]
pub struct Backoff {
    first_ns: u64,
    most_ns: u64,
    /// Failures in a row.
    failed: u32,
    /// From 0 to 1, where in its spread the next wait lies.
    spread: f64,
    next_at: Nanos,
}

impl Backoff {
    /// Waits from `first_ns` to `most_ns`; `seed` sets this one apart from others.
    pub fn new(first_ns: u64, most_ns: u64, seed: u64) -> Self {
        Self {
            first_ns,
            most_ns,
            failed: 0,
            spread: (seed as f64 * GOLDEN).fract(),
            next_at: Nanos::new(0),
        }
    }

    /// Nanoseconds until the next try; zero if it may be made now.
    pub const fn wait_ns(&self, now: Nanos) -> u64 {
        self.next_at.since(now)
    }

    /// A try has failed: the next one comes after 0.75 to 1.25 of the doubled wait.
    pub fn failed(&mut self, now: Nanos) {
        let doubled = self.first_ns.checked_shl(self.failed).unwrap_or(u64::MAX);
        let wait = doubled.min(self.most_ns) as f64 * (0.75 + self.spread / 2.0);
        self.failed = (self.failed + 1).min(32);
        self.spread = (self.spread + GOLDEN).fract();
        self.next_at = Nanos::new(now.get() + wait as u64);
    }

    /// Tries that failed since the last one that did not.
    pub const fn failures(&self) -> u32 {
        self.failed
    }

    /// A try has succeeded.
    pub const fn succeeded(&mut self) {
        self.failed = 0;
        self.next_at = Nanos::new(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(100, 1000, 3);
        let mut waits = Vec::new();
        for _ in 0..60 {
            backoff.failed(Nanos::new(50));
            waits.push(backoff.wait_ns(Nanos::new(50)));
        }
        for (wait, doubled) in waits.iter().zip([100, 200, 400, 800, 1000, 1000]) {
            assert!(
                (doubled * 3 / 4..=doubled * 5 / 4).contains(wait),
                "{waits:?}"
            );
        }
        assert!(waits[59] <= 1250 && waits[5] != waits[6]);
        backoff.succeeded();
        assert_eq!(backoff.wait_ns(Nanos::new(50)), 0);
    }
}
