//! Slots: where one replica of a block is, and who may use it now.
//!
//! A slot is one word and one record cell.
//!
//! ```text
//! bit  63            32 31                        3 2     0
//!     | pins            | generation               | state |
//!                        '------- futex word -------------'
//! ```
//!
//! Life of a slot:
//! 1. `Absent`: nobody has a replica here.
//! 2. `Filling`: a [`crate::lease::FillLease`] owns the extent; the cell is written once, by it.
//! 3. `Ready`: published with one release store; readers pin, and read the record under a pin.
//! 4. `Draining`: eviction won a compare-and-swap from `Ready` without pins; the generation moved
//!    on, so a late pin fails; the cell is emptied and the slot is `Absent` again.
//!
//! `Poisoned` is a fill that failed, until its owner clears it.
//!
//! Ordering: the release store of `Ready` pairs with the acquire of a successful pin; the release
//! of an unpin pairs with the acquire of a successful eviction.

use crate::futex;
use crate::space::Extent;
use crate::sync::{AtomicU64, Cell};
use smallvec::SmallVec;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// State of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Absent,
    Filling,
    Ready,
    Draining,
    Poisoned,
}

const STATE_BITS: u32 = 3;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
const LOW_MASK: u64 = u32::MAX as u64;
const PIN: u64 = 1 << 32;

impl State {
    const fn of(word: u64) -> Self {
        match word & STATE_MASK {
            0 => Self::Absent,
            1 => Self::Filling,
            2 => Self::Ready,
            3 => Self::Draining,
            _ => Self::Poisoned,
        }
    }
}

/// Slice of the extent of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRange {
    /// First byte, counted from the start of the extent.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// What a ready slot says about its replica.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) parts: SmallVec<[PartRange; 8]>,
    pub(crate) extent: Extent,
}

/// One slot; see the module.
#[derive(Debug)]
pub(crate) struct Slot {
    word: AtomicU64,
    cell: Cell<Option<Box<Record>>>,
}

// SAFETY: the cell is written by the one thread that moved the word into `Filling` or `Draining`
// (both by compare-and-swap, so there is one such thread), and read only while pins > 0 in `Ready`.
unsafe impl Sync for Slot {}
// SAFETY: the record holds an extent, which is `Send`.
unsafe impl Send for Slot {}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            cell: Cell::new(None),
        }
    }

    pub(crate) fn state(&self) -> State {
        State::of(self.word.load(Ordering::Acquire))
    }

    pub(crate) fn pins(&self) -> u32 {
        (self.word.load(Ordering::Relaxed) >> 32) as u32
    }

    /// `Absent` to `Filling`; `false` if somebody else was first.
    pub(crate) fn begin_fill(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        State::of(word) == State::Absent
            && self
                .word
                .compare_exchange(word, word + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// `Filling` to `Ready`, with the record. Only the owner of the fill calls this.
    pub(crate) fn publish(&self, record: Record) {
        let word = self.word.load(Ordering::Relaxed);
        assert_eq!(
            State::of(word),
            State::Filling,
            "publish a slot that is being filled"
        );
        // SAFETY: in `Filling` only the owner of the fill touches the cell, and it calls this once.
        self.cell
            .with_mut(|cell| unsafe { *cell = Some(Box::new(record)) });
        self.word.store(word + 1, Ordering::Release);
        futex::wake_all(&self.word);
    }

    /// `Filling` to `Poisoned` (the fill failed) or to `Absent` (it was given up).
    pub(crate) fn end_fill(&self, failed: bool) {
        let word = self.word.load(Ordering::Relaxed);
        assert_eq!(
            State::of(word),
            State::Filling,
            "end a fill that is under way"
        );
        let low = if failed {
            (word & !STATE_MASK) | 4
        } else {
            next_generation(word)
        };
        self.word.store(low, Ordering::Release);
        futex::wake_all(&self.word);
    }

    /// `Poisoned` to `Absent`.
    pub(crate) fn clear_poison(&self) {
        let word = self.word.load(Ordering::Relaxed);
        if State::of(word) == State::Poisoned {
            let next = next_generation(word);
            let _ = self
                .word
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Takes a pin if the slot is ready.
    pub(crate) fn pin(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while State::of(word) == State::Ready {
            match self.word.compare_exchange_weak(
                word,
                word + PIN,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Gives one pin back.
    pub(crate) fn unpin(&self) {
        let before = self.word.fetch_sub(PIN, Ordering::Release);
        debug_assert!(before >= PIN, "unpin without a pin");
    }

    /// The record; the caller holds a pin as long as the reference lives.
    ///
    /// # Safety
    /// The caller holds a pin for the lifetime it chooses for the reference.
    pub(crate) unsafe fn record(&self) -> &Record {
        // SAFETY: pinned, so the state is `Ready` and nobody writes the cell (caller's duty).
        self.cell
            .with(|cell| unsafe { (*cell).as_deref() })
            .expect("a ready slot has a record")
    }

    /// `Ready` without pins to `Absent`; the record, or `None` if it is not evictable now.
    pub(crate) fn evict(&self) -> Option<Box<Record>> {
        let word = self.word.load(Ordering::Relaxed);
        if State::of(word) != State::Ready || word >> 32 != 0 {
            return None;
        }
        let draining = (next_generation(word) & !STATE_MASK) | 3;
        self.word
            .compare_exchange(word, draining, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        // SAFETY: `Draining` was entered by this thread's compare-and-swap, with no pins out.
        let record = self.cell.with_mut(|cell| unsafe { (*cell).take() });
        self.word.store(draining & !STATE_MASK, Ordering::Release);
        futex::wake_all(&self.word);
        record
    }

    /// Sleeps while the slot is `Filling`, at most `timeout`; the state after that.
    pub(crate) fn wait_filled(&self, timeout: Duration) -> State {
        let word = self.word.load(Ordering::Acquire);
        if State::of(word) == State::Filling {
            futex::wait(&self.word, word as u32, timeout);
        }
        self.state()
    }
}

/// The word of the next generation: `Absent`, no pins.
const fn next_generation(word: u64) -> u64 {
    ((word & LOW_MASK & !STATE_MASK) + (1 << STATE_BITS)) & LOW_MASK
}

#[cfg(all(test, feature = "explore"))]
mod explore;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Space;

    fn record() -> Record {
        let extent = Space::counted(4096).alloc_low(1).expect("one granule");
        Record {
            parts: SmallVec::new(),
            extent,
        }
    }

    #[test]
    fn a_slot_goes_round_and_changes_generation() {
        let slot = Slot::new();
        assert!(slot.begin_fill() && !slot.begin_fill() && !slot.pin());
        slot.publish(record());
        assert!(slot.pin());
        assert!(slot.evict().is_none(), "a pinned slot stays");
        slot.unpin();
        let before = slot.word.load(Ordering::Relaxed) & LOW_MASK;
        assert!(slot.evict().is_some());
        assert_eq!(slot.state(), State::Absent);
        assert!(slot.word.load(Ordering::Relaxed) > before & !STATE_MASK);
    }

    #[test]
    fn a_failed_fill_is_poisoned_until_cleared() {
        let slot = Slot::new();
        assert!(slot.begin_fill());
        slot.end_fill(true);
        assert_eq!(slot.state(), State::Poisoned);
        assert!(!slot.begin_fill() && !slot.pin());
        slot.clear_poison();
        assert!(slot.begin_fill());
        slot.end_fill(false);
        assert_eq!(slot.state(), State::Absent);
    }

    #[test]
    fn the_generation_wraps_without_touching_pins_or_state() {
        let last = LOW_MASK & !STATE_MASK;
        assert_eq!(next_generation(last | 2), 0);
    }
}
