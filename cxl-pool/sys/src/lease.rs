//! Leases: owned rights to the bytes of an extent.
//!
//! - [`FillLease`]: unique; the extent of a slot that is being filled. It is cut into
//!   [`FillPiece`]s, each owned by the operation that writes it until its completion, so a
//!   cancelled fill stays in quarantine by ownership: the extent goes back to its space only
//!   when the last piece has come home.
//! - [`ReadLease`]: a pin on a ready slot; `Send` and `'static`, given back on drop.
//! - [`AppendLease`]: unique; a KV slice that its sequence still appends to.
//! - [`Scratch`]: an extent that never was a block: activations, logits, gathered rows.

mod fill;
mod read;
mod scratch;

pub use fill::{Cutter, FillLease, FillPiece};
pub use read::{ReadLease, ReadPiece};
pub use scratch::{AppendLease, Scratch};

use crate::slot::{Slot, State};
use crate::space::Extent;
use std::sync::Arc;
use std::time::Duration;

/// All slots of a store.
#[derive(Debug)]
pub struct SlotTable {
    slots: Box<[Slot]>,
}

impl SlotTable {
    /// A table of `count` absent slots.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: (0..count).map(|_| Slot::new()).collect(),
        })
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn state(&self, slot: usize) -> State {
        self.slots[slot].state()
    }

    /// Leases that pin the slot now.
    pub fn pins(&self, slot: usize) -> u32 {
        self.slots[slot].pins()
    }

    /// Starts a fill into `extent`; it comes back if the slot is not absent.
    pub fn begin_fill(self: &Arc<Self>, slot: usize, extent: Extent) -> Result<FillLease, Extent> {
        if !self.slots[slot].begin_fill() {
            return Err(extent);
        }
        Ok(FillLease::new(self, slot, extent))
    }

    /// Starts a slice that a sequence appends to; the extent comes back if the slot is not absent.
    pub fn begin_append(
        self: &Arc<Self>,
        slot: usize,
        extent: Extent,
    ) -> Result<AppendLease, Extent> {
        if !self.slots[slot].begin_fill() {
            return Err(extent);
        }
        Ok(AppendLease::new(self, slot, Scratch::new(extent)))
    }

    /// Pins the slot if it is ready.
    pub fn pin(self: &Arc<Self>, slot: usize) -> Option<ReadLease> {
        self.slots[slot]
            .pin()
            .then(|| ReadLease::of_pin(self, slot))
    }

    /// Evicts the slot if it is ready and nobody pins it; its extent goes to whoever asks.
    pub fn evict(&self, slot: usize) -> Option<Extent> {
        self.slots[slot].evict().map(|record| record.extent)
    }

    /// Makes a poisoned slot absent again.
    pub fn clear_poison(&self, slot: usize) {
        self.slots[slot].clear_poison();
    }

    /// Sleeps while the slot is being filled, at most `timeout`; the state after that.
    pub fn wait_filled(&self, slot: usize, timeout: Duration) -> State {
        self.slots[slot].wait_filled(timeout)
    }
}

#[cfg(all(test, feature = "explore"))]
mod explore;

#[cfg(test)]
mod tests;
