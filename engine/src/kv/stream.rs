//! The frames in which slices that are at home pass through the fast tier.
//!
//! Slices come in the order in which steps read them, layer by layer, as many ahead as there are
//! frames, across the end of a step into the next. One is leased at a time, the oldest first.

use super::{KvLayout, SliceAt};
use crate::home::Homes;
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::slot::State;
use larder_pool::sys::space::Extent;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A slice in a step; steps are counted from the first one of the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) step: u64,
    pub(super) at: SliceAt,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    frames: usize,
    /// Slices in frames, oldest first; the first `leased` have been leased.
    held: VecDeque<Place>,
    leased: usize,
    /// Where to look for the slice to ask for next.
    behind: Place,
    /// The step under way.
    step: u64,
    /// Steps that are certain to come, the one under way included.
    pub(super) steps: u64,
    due: u64,
    pub(super) stall: Duration,
}

/// Time before a home that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(5);

const START: SliceAt = SliceAt { layer: 0, block: 0 };

impl Stream {
    pub(super) fn new(frames: usize) -> Self {
        Self {
            frames,
            held: VecDeque::new(),
            leased: 0,
            behind: Place { step: 0, at: START },
            step: 0,
            steps: 0,
            due: 0,
            stall: Duration::ZERO,
        }
    }

    pub(super) const fn frames(&self) -> usize {
        self.frames
    }

    /// Says how many frames there are from now on; what is in more than that has been given up.
    pub(super) fn set_frames(&mut self, frames: usize) {
        assert!(self.held.len() <= frames, "slices are in frames that go");
        self.frames = frames;
    }

    pub(super) fn has_room(&self) -> bool {
        self.held.len() < self.frames
    }

    pub(super) fn holds(&self, at: SliceAt) -> bool {
        self.held.iter().any(|held| held.at == at)
    }

    pub(super) const fn behind(&self) -> Place {
        self.behind
    }

    /// The start of the step behind the one that is being asked for, if that comes.
    pub(super) fn next_step(&self) -> Option<Place> {
        let step = self.behind.step + 1;
        let ahead = step - self.step;
        (ahead == 1 && self.steps > ahead).then_some(Place { step, at: START })
    }

    /// The oldest slice that has not been leased is this one.
    pub(super) fn is_next(&self, at: SliceAt) -> bool {
        let place = Place {
            step: self.step,
            at,
        };
        self.held.get(self.leased) == Some(&place)
    }

    /// Starts over in the step under way.
    pub(super) fn look_from(&mut self, at: SliceAt) {
        self.behind = Place {
            step: self.step,
            at,
        };
    }

    pub(super) fn ask(&mut self, homes: &Homes, layout: &KvLayout, place: Place, target: Extent) {
        self.due += 1;
        homes.fetch(layout.slice(place.at), Class::Prefetch, self.due, target);
        self.held.push_back(place);
        self.behind = place;
        self.behind.at.block += 1;
    }

    /// Pins the oldest slice that has not been leased, sleeping until it is there; `again` gives
    /// the memory of a move that failed.
    pub(super) fn lease(
        &mut self,
        homes: &Homes,
        layout: &KvLayout,
        at: SliceAt,
        again: impl Fn() -> Option<Extent>,
    ) -> Result<ReadLease, MoveError> {
        let slot = slot_of(layout.slice(at));
        let was_ready = homes.mover.table().state(slot) == State::Ready;
        let start = Instant::now();
        let lease = loop {
            let error = match homes.mover.wait(slot) {
                Ok(lease) => break lease,
                Err(error) => error,
            };
            let block = layout.slice(at);
            if !error.is_unanswered() || !homes.has(block) {
                return Err(error);
            }
            // It is nowhere else: asked for again until its home answers or is gone.
            homes.mover.rest(ASK_AGAIN);
            let frame = again();
            homes.fetch(block, Class::Demand, 0, frame.ok_or(error)?);
        };
        if !was_ready {
            self.stall += start.elapsed();
        }
        self.leased += 1;
        Ok(lease)
    }

    /// The oldest slice has been used.
    pub(super) fn pop(&mut self, at: SliceAt) {
        let oldest = self.held.pop_front().map(|place| place.at);
        assert_eq!(oldest, Some(at), "slices are used in order");
        self.leased -= 1;
    }

    /// A step has ended: what is in line is of the steps that come.
    pub(super) fn end_step(&mut self) {
        self.steps = self.steps.saturating_sub(1);
        self.step += 1;
        if self.behind.step < self.step {
            self.look_from(START);
        }
    }

    /// Gives up everything: nobody reads what was leased any more, and how moves end is all one.
    pub(super) fn abandon(&mut self, homes: &Homes, layout: &KvLayout) {
        self.leased = 0;
        let _ = self.clear(homes, layout);
    }

    /// Gives up everything that has not been leased.
    pub(super) fn clear(&mut self, homes: &Homes, layout: &KvLayout) -> Result<(), MoveError> {
        let mut outcome = Ok(());
        while self.held.len() > self.leased {
            let place = self.held.pop_back().expect("longer than what is leased");
            self.behind = place;
            let slot = slot_of(layout.slice(place.at));
            match homes.mover.wait(slot) {
                Ok(lease) => drop(lease),
                // Whoever asks for it again will see.
                Err(error) if error.is_lost() || error.is_unanswered() => {}
                Err(error) => outcome = Err(error),
            }
            drop(homes.mover.table().evict(slot));
        }
        outcome
    }
}
