//! Blocks that are read in place: the memory of a node on this host is read by the same processors,
//! so what is used once a step is not moved first.
//!
//! A block of the fixed set is on the fast tier all the same, which may be the nearer memory, and
//! is the budget that was given. Others are leased where they stand, all of a model that the node
//! has, or those that went home to it: their checksums are checked at their first lease, by the
//! thread that asks for it. What is lent stays when the node is lost, or the model removed from it:
//! then nothing of such a model is brought here any more, and all that is not here is read there.

use super::Stager;
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::slot::State;
use larder_pool::table::slot_of;
use larder_pool::transfer::MoveError;
use larder_pool::units::BlockId;

impl Stager {
    /// Nothing was asked for: the block waits for its lease where it stands.
    pub(super) fn is_left_there(&self, block: BlockId) -> bool {
        self.supply.table().state(slot_of(block)) == State::Absent
    }

    /// Makes the block ready where it stands if it is used `now`; ahead of its use there is nothing
    /// to do. `false` if it has to be brought.
    pub(super) fn read_there(&self, block: BlockId, now: bool) -> Result<bool, MoveError> {
        let can_place = self.supply.can_place(block);
        if !can_place || !now {
            return Ok(can_place);
        }
        match self.supply.place(block) {
            Ok(()) => Ok(true),
            Err(error) if self.supply.is_placed() => Err(error),
            // What a home lends no more, or has damaged, comes as it would without.
            Err(_) => Ok(false),
        }
    }

    /// The block is to be on the fast tier for every step, and can be brought there.
    pub(super) fn is_brought(&self, index: usize) -> bool {
        self.layout.is_fixed(index, self.border) && !self.is_cut_off
    }

    /// A block that is read in place leaves that place, so that it can be moved to the fast tier.
    pub(super) fn make_way(&self, block: BlockId) {
        if self.supply.is_in_place(block) {
            drop(self.supply.evict(block));
        }
    }

    /// Leases a block where it stands that could not be brought here.
    pub(super) fn lease_there(&mut self, block: BlockId) -> Option<ReadLease> {
        self.is_cut_off = self.supply.is_placed() && self.supply.place(block).is_ok();
        self.is_cut_off.then(|| self.peek(block)).flatten()
    }

    /// Counts a lease that is read in place.
    pub(super) fn note_in_place(&mut self, block: BlockId, lease: &ReadLease) {
        if lease.is_lent() {
            self.counters.in_place += self.supply.bytes(block);
        }
    }
}
