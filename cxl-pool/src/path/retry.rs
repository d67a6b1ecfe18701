//! Operations that are tried again, after a while and within a budget: a device that fails one
//! operation in ten is asked once more, one that fails them all is not asked twice as much.

use super::{InFlight, Path};
use crate::transfer::Work;
use crate::units::Nanos;
use larder_sys::io::Verb;
use std::collections::BTreeMap;

/// Tries of one operation before its move fails.
const ATTEMPTS: u8 = 3;
/// Wait before the second try; each further one waits four times as long.
const FIRST_NS: u64 = 1_000_000;
/// What a repetition costs, what an operation that succeeded earns, and the most that is kept: 32
/// repetitions in a row, then one for every ten operations that went well.
const COST: u32 = 10;
const EARNED: u32 = 1;
const MOST: u32 = 320;

/// See the module.
pub(super) struct Retries {
    budget: u32,
    /// By the time of the next try, and tag.
    waiting: BTreeMap<(Nanos, u64), (InFlight, Verb)>,
}

impl Retries {
    pub(super) const fn new() -> Self {
        Self {
            budget: MOST,
            waiting: BTreeMap::new(),
        }
    }

    /// An operation has succeeded.
    pub(super) const fn earn(&mut self) {
        if self.budget < MOST {
            self.budget += EARNED;
        }
    }

    /// Whether an operation that failed is tried once more.
    pub(super) const fn allows(&self, piece: &InFlight) -> bool {
        piece.attempts < ATTEMPTS && self.budget >= COST
    }

    /// Keeps an operation for its next try.
    pub(super) fn put_off(&mut self, now: Nanos, tag: u64, piece: InFlight, verb: Verb) {
        self.budget -= COST;
        let wait = FIRST_NS << (2 * u32::from(piece.attempts - 1));
        let at = Nanos::new(now.get() + wait);
        let attempts = piece.attempts + 1;
        let again = InFlight { attempts, ..piece };
        self.waiting.insert((at, tag), (again, verb));
    }

    /// The next operation whose time has come.
    pub(super) fn due(&mut self, now: Nanos) -> Option<(u64, InFlight, Verb)> {
        let first = self.waiting.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let ((_, tag), (piece, verb)) = first.remove_entry();
        Some((tag, piece, verb))
    }

    /// Nanoseconds until an operation is tried again, if one waits.
    pub(super) fn wait_ns(&self, now: Nanos) -> Option<u64> {
        let (&(at, _), _) = self.waiting.first_key_value()?;
        Some(at.since(now).max(1))
    }
}

impl Path {
    /// Starts operations once more whose time has come, unless their move was given up.
    pub(super) fn try_again(&mut self) {
        while let Some((tag, piece, verb)) = self.retries.due(self.around.clock.now()) {
            let transfer = &self.transfers[&piece.transfer];
            if transfer.slot().is_some() || matches!(transfer.work, Work::Free(_)) {
                self.pieces.insert(tag, piece);
                self.start(tag, piece, verb);
                continue;
            }
            self.pieces.remove(&tag);
            self.pace.ended(piece.len);
            drop((verb, self.take_target(tag)));
            self.piece_home(piece.transfer, Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::disk::Flight;
    use crate::transfer::Place;

    #[test]
    fn repetitions_wait_longer_each_time_and_end_with_their_budget() {
        let piece = InFlight {
            transfer: 0,
            place: Place { run: 0, at: 0 },
            file: 0,
            offset: 0,
            due: 0,
            len: 0,
            attempts: 1,
            flight: Flight {
                started: Nanos::new(0),
                ahead: 0,
            },
        };
        let mut retries = Retries::new();
        assert!(retries.allows(&piece));
        retries.put_off(Nanos::new(0), 7, piece, Verb::Free);
        assert!(retries.due(Nanos::new(999_999)).is_none());
        let (tag, again, verb) = retries
            .due(Nanos::new(1_000_000))
            .expect("its time has come");
        assert_eq!((tag, again.attempts), (7, 2));
        retries.put_off(Nanos::new(0), 7, again, verb);
        assert_eq!(retries.wait_ns(Nanos::new(0)), Some(4_000_000));
        let (_, last, _) = retries
            .due(Nanos::new(4_000_000))
            .expect("its time has come");
        assert!(!retries.allows(&last), "three tries are enough");
        let mut failed = 2;
        while retries.allows(&piece) {
            retries.put_off(Nanos::new(0), failed, piece, Verb::Free);
            failed += 1;
        }
        assert_eq!(failed, 32);
        (0..10).for_each(|_| retries.earn());
        assert!(
            retries.allows(&piece),
            "ten that went well pay for one more"
        );
    }
}
