//! Between two steps the budget follows the pressure on memory.
//!
//! Weights give way first: the border comes down, what is above it is dropped, and its pages go
//! back to the kernel. KV gives way where it has a home. Where bytes are never changes an answer,
//! so neither does pressure.

use super::{Prefill, Session};
use crate::kv::{KvError, Sequence};
use crate::layout::BASE_ROWS;
use crate::pressure::{Gauge, Limits, Pressure, Story};
use larder_pool::clock::Clock;
use larder_pool::sys::mapping::Mapping;
use larder_pool::units::SLICE_TOKENS;
use std::sync::Arc;

/// See the module.
pub(super) struct UnderPressure {
    pressure: Pressure,
    /// The prefill under way, whose buffers stand where they are until it ends.
    prefill: Option<Prefill>,
    /// Smallest budget that there was.
    lowest: u64,
}

impl Session {
    /// The fast tier was opened for a budget that may shrink.
    pub fn may_shrink(&self) -> bool {
        let mapping = self.space.mapping();
        mapping.is_some_and(Mapping::may_shrink)
    }

    /// From now on the budget follows what `gauge` reads, in the time of `clock`.
    ///
    /// # Panics
    /// If the session was opened for a budget that stays.
    pub fn watch_pressure(&mut self, gauge: Box<dyn Gauge>, clock: Arc<dyn Clock>) {
        assert!(self.may_shrink(), "opened for a budget that stays");
        let limits = Limits {
            least: self.layout.least_bytes(),
            most: self.layout.space_bytes,
        };
        self.pressure = Some(UnderPressure {
            pressure: Pressure::new(gauge, clock, limits),
            prefill: None,
            lowest: limits.most,
        });
    }

    /// What pressure did so far, and the smallest budget that there was; `None` if nobody watches.
    pub fn pressure(&self) -> Option<(Story, u64)> {
        let under = self.pressure.as_ref()?;
        Some((under.pressure.story(), under.lowest))
    }

    /// A prefill begins, or has ended.
    pub(super) fn note_prefill(&mut self, prefill: Option<Prefill>) {
        if let Some(under) = &mut self.pressure {
            under.prefill = prefill;
        }
    }

    /// A step has ended.
    pub(super) fn pressure_step(&mut self, sequence: &mut Sequence) -> Result<(), KvError> {
        let used = self.space.used_bytes();
        let Some(under) = &mut self.pressure else {
            return Ok(());
        };
        if !under.pressure.look(used) {
            return Ok(());
        }
        match under.prefill {
            Some(prefill) => self.make_room_beside(&prefill),
            None => self.follow_budget(sequence),
        }
    }

    /// During a prefill the weights below its buffers give way; the rest follows when it ends.
    fn make_room_beside(&mut self, prefill: &Prefill) -> Result<(), KvError> {
        let held = self.layout.held_back();
        self.hold_back();
        if self.layout.held_back() <= held {
            // Above the border are the buffers.
            self.layout.hold_back(held);
            return Ok(());
        }
        let border = self.layout.kv_border(prefill.tokens, prefill.work_bytes);
        let border = border - prefill.work_bytes;
        self.stager.set_border(border)?;
        self.give_back(border);
        self.note_lowest(prefill.tokens, prefill.work_bytes);
        Ok(())
    }

    /// Brings weights and KV to the budget of now, between two steps.
    pub(super) fn follow_budget(&mut self, sequence: &mut Sequence) -> Result<(), KvError> {
        self.hold_back();
        if self.pressure.is_some() && self.layout.needs().kv_has_home {
            let frames = self.layout.kv_frames(0);
            sequence.resize(frames, self.layout.stream_frames(frames, BASE_ROWS))?;
        }
        let tokens = sequence.blocks() * SLICE_TOKENS;
        let border = self.layout.kv_border(tokens, 0);
        self.stager.set_border(border)?;
        self.give_back(border);
        self.note_lowest(tokens, 0);
        Ok(())
    }

    /// Holds back what the budget of now lacks.
    fn hold_back(&mut self) {
        if let Some(under) = &self.pressure {
            let held = self.layout.space_bytes - under.pressure.budget();
            self.layout.hold_back(held);
        }
    }

    /// Gives the pages above the weights that nothing stands in back to the kernel, if something
    /// is held back.
    pub(super) fn give_back(&self, border: u64) {
        if self.layout.held_back() > 0 {
            self.space.give_back(border);
        }
    }

    fn note_lowest(&mut self, tokens: usize, work: u64) {
        let now = self.layout.budget_now(tokens, work);
        if let Some(under) = &mut self.pressure {
            under.lowest = under.lowest.min(now);
        }
    }
}
