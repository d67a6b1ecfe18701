//! Homes whose memory kernels read: that of a node on this host.
//!
//! A block that went there is leased where it stands, once the node has pinned it. What was leased
//! stays, whatever becomes of the home: only what was not leased yet has to be brought when the
//! node is lost.

use super::{Home, Homes};
use larder_pool::checksum::SumStore;
use larder_pool::remote::PlacedLoan;
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
}

impl Homes {
    /// Where the block can be read in place.
    fn placed(&self, block: BlockId) -> Option<(usize, Arc<PlacedLoan>)> {
        let n = self.readable(block)?;
        Some((n, self.list[n].placed()?))
    }

    /// The block can be read where it stands.
    pub fn can_place(&self, block: BlockId) -> bool {
        self.placed(block).is_some()
    }

    /// Makes a block, which must be absent, ready where it stands.
    pub fn place(&self, block: BlockId, sums: &SumStore) -> Result<(), MoveError> {
        let table = self.mover.table();
        let stored = self.placed(block).and_then(|(n, placed)| {
            let stored = table.pin(home_slot(block, n))?;
            Some((placed, stored))
        });
        let (placed, stored) = stored.ok_or(MoveError::Unplaced {
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
