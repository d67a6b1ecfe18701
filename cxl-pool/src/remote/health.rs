//! The health of a node, for everybody who uses it: whether it stands, since which life, and how
//! much it is to be given.
//!
//! A life begins when the node is reached, the first time or again, and ends when it is gone. What
//! it held in one life is not there in the next unless it is opened anew.

use crate::clock::Clock;
use crate::units::Nanos;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

/// Time over which a node that came, or came back, is given its full share again.
const RAMP_NS: u64 = 10_000_000_000;
/// Share of a node that has just come.
const RAMP_FROM: f64 = 0.1;

/// What may be asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing: what it had is lost.
    Gone,
    /// It does not answer now. Nothing new goes there; what is only there is waited for.
    Suspect,
    Alive,
}

/// How often what happened to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthCounts {
    /// Times that it did not answer for a while.
    pub suspected: u64,
    /// Times that it was given up.
    pub lost: u64,
    /// Times that it came, or came back, while it was in use.
    pub joined: u64,
}

/// See the module.
pub struct Health {
    clock: Arc<dyn Clock>,
    is_watched: AtomicBool,
    standing: AtomicU8,
    life: AtomicU64,
    /// When the life began whose share grows; zero if it is full from the start.
    ramps_from: AtomicU64,
    free_bytes: AtomicU64,
    suspected: AtomicU64,
    lost: AtomicU64,
    joined: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health")
            .field("standing", &self.standing())
            .field("life", &self.life())
            .finish_non_exhaustive()
    }
}

impl Health {
    /// The health of a node that has not been reached.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            is_watched: AtomicBool::new(false),
            standing: AtomicU8::new(Standing::Gone as u8),
            life: AtomicU64::new(0),
            ramps_from: AtomicU64::new(0),
            free_bytes: AtomicU64::new(0),
            suspected: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            wakers: Mutex::default(),
        })
    }

    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Gone,
            1 => Standing::Suspect,
            _ => Standing::Alive,
        }
    }

    /// Number of the life that it is in, or was in last; zero if it was never reached.
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Bytes that it could lend when its life began.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Acquire)
    }

    pub fn counts(&self) -> HealthCounts {
        HealthCounts {
            suspected: self.suspected.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            joined: self.joined.load(Ordering::Relaxed),
        }
    }

    /// What the node is to be given, from 0 (nothing) to 1: one that has just come grows into its
    /// share.
    pub fn share(&self) -> f64 {
        if self.standing() != Standing::Alive {
            return 0.0;
        }
        let from = self.ramps_from.load(Ordering::Relaxed);
        if from == 0 {
            return 1.0;
        }
        let grown = self.clock.now().since(Nanos::new(from)) as f64 / RAMP_NS as f64;
        (RAMP_FROM + (1.0 - RAMP_FROM) * grown).min(1.0)
    }

    /// Somebody asks the node all the time; without that its connections say how it stands.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Acquire)
    }

    pub(super) fn set_watched(&self) {
        self.is_watched.store(true, Ordering::Release);
    }

    /// Wakes `waker` at every change of the standing.
    pub(super) fn on_change(&self, waker: Waker) {
        self.wakers.lock().push(waker);
    }

    fn set(&self, standing: Standing) -> Standing {
        let before = self.standing();
        self.standing.store(standing as u8, Ordering::Release);
        if before != standing {
            self.wakers.lock().iter().for_each(Waker::wake_by_ref);
        }
        before
    }

    /// A life begins; in the middle of things, its share grows.
    pub(super) fn begin(&self, free_bytes: u64, at: Begin) {
        if at == Begin::Later {
            let now = self.clock.now().get().max(1);
            self.ramps_from.store(now, Ordering::Relaxed);
            self.joined.fetch_add(1, Ordering::Relaxed);
        }
        self.free_bytes.store(free_bytes, Ordering::Release);
        self.life.fetch_add(1, Ordering::AcqRel);
        self.set(Standing::Alive);
    }

    /// The node answers.
    pub(super) fn answers(&self) {
        self.set(Standing::Alive);
    }

    /// The node does not answer.
    pub(super) fn suspect(&self) {
        if self.set(Standing::Suspect) == Standing::Alive {
            self.suspected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The life is over.
    pub(super) fn end(&self) {
        if self.set(Standing::Gone) != Standing::Gone {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// When a life begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// With everything else.
    AtStart,
    /// While there is work already.
    Later,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::VirtualClock;

    #[test]
    fn a_node_that_comes_later_is_given_little_at_first() {
        let clock = VirtualClock::default();
        let health = Health::new(Arc::new(clock.clone()));
        assert_eq!((health.standing(), health.share()), (Standing::Gone, 0.0));
        health.begin(7, Begin::AtStart);
        assert_eq!(
            (health.share(), health.life(), health.free_bytes()),
            (1.0, 1, 7)
        );
        health.suspect();
        health.suspect();
        assert_eq!(health.share(), 0.0);
        health.answers();
        assert_eq!(health.share(), 1.0);
        health.end();
        clock.advance_to(Nanos::new(1_000_000_000));
        health.begin(9, Begin::Later);
        assert!((health.share() - 0.1).abs() < 1e-9);
        clock.advance_to(Nanos::new(6_000_000_000));
        assert!((health.share() - 0.55).abs() < 1e-9);
        clock.advance_to(Nanos::new(60_000_000_000));
        assert_eq!((health.share(), health.life()), (1.0, 2));
        let counts = health.counts();
        assert_eq!((counts.suspected, counts.lost, counts.joined), (1, 1, 1));
    }
}
