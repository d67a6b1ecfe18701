//! Homes whose memory kernels read: that of a node on this host.
//!
//! A block that went there is leased where it stands, once the node has pinned it. What was leased
//! stays, whatever becomes of the home: only what was not leased yet has to be brought when the
//! node is lost.

use super::{Home, Homes};
use larder_pool::checksum::SumStore;
use larder_pool::remote::PlacedLoan;
use larder_pool::sys::lease::ReadLease;
use larder_pool::table::home_slot;
use larder_pool::transfer::MoveError;
use larder_pool::units::BlockId;
use std::sync::Arc;

impl Home {
    /// What its blocks are read by where they stand, as long as its node lets them.
    fn placed(&self) -> Option<Arc<PlacedLoan>> {
        let placed = self.lent.as_ref()?.placed()?;
        (!placed.is_over()).then_some(placed)
    }

    /// Bytes of weights that it keeps where kernels read them, beside `reserve` bytes; nothing of
    /// what its node has on a disk.
    pub fn placed_room(&self, reserve: u64) -> u64 {
        let placed = self.lent.as_ref().and_then(|lent| lent.placed());
        let memory = placed.map_or(0, |placed| placed.memory_bytes());
        self.bytes().min(memory).saturating_sub(reserve)
    }
}

impl Homes {
    /// Where the block can be read in place, and what stands there.
    fn placed(&self, block: BlockId) -> Option<(Arc<PlacedLoan>, ReadLease)> {
        let n = self.readable(block)?;
        let placed = self.list[n].placed()?;
        let stored = self.mover.table().pin(home_slot(block, n))?;
        let is_pinned = placed.is_pinned(&stored);
        // A node that is silent is not waited for.
        let can_place = is_pinned.unwrap_or_else(|| self.answers(n));
        can_place.then_some((placed, stored))
    }

    /// The block can be read where it stands.
    pub fn can_place(&self, block: BlockId) -> bool {
        self.placed(block).is_some()
    }

    /// Makes a block, which must be absent, ready where it stands.
    pub fn place(&self, block: BlockId, sums: &SumStore) -> Result<(), MoveError> {
        let table = self.mover.table();
        let (placed, stored) = self.placed(block).ok_or(MoveError::Unplaced {
            block,
            why: "it is at no home that lends its memory",
        })?;
        placed.publish(table, block, &stored, sums).map(drop)
    }

    /// Bytes of the homes that were read in place so far, each block once.
    pub fn lent_bytes(&self) -> u64 {
        let lent = self.list.iter().filter_map(|home| home.lent.as_ref());
        let placed = lent.filter_map(|lent| lent.placed());
        placed.map(|placed| placed.read_bytes()).sum()
    }
}
