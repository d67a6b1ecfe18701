//! Experts that are read in place.

use super::ExpertCache;
use larder_pool::sys::lease::ReadLease;
use larder_pool::table::slot_of;
use larder_pool::units::BlockId;

impl ExpertCache {
    /// Experts that the next layers will pick are worth knowing.
    pub fn wants_guesses(&self) -> bool {
        !self.supply.is_placed()
    }

    /// Makes an absent expert ready where it stands; `false` if it cannot be read there.
    pub(super) fn reads_there(&self, block: BlockId) -> bool {
        self.supply.can_place(block) && self.supply.place(block).is_ok()
    }

    /// A free frame is for this expert: one of a model that stands at the node uses the budget that
    /// was given, one that has gone home only leaves less of it to those that have not.
    pub(super) fn may_enter(&self, block: BlockId) -> bool {
        !self.is_cut_off && (self.supply.is_placed() || !self.supply.can_place(block))
    }

    /// Who leaves its frame: one that can be read at home, if there is one.
    pub(super) fn victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId> {
        let at_home = |block: BlockId| may(block) && self.supply.can_place(block);
        let found = self
            .supply
            .has_placed_home()
            .then(|| self.policy.victim(&at_home));
        found.flatten().or_else(|| self.policy.victim(may))
    }

    /// Leases an expert where it stands that could not be brought here.
    pub(super) fn lease_there(&mut self, block: BlockId) -> Option<ReadLease> {
        self.is_cut_off = self.supply.is_placed() && self.reads_there(block);
        let lease = || self.supply.table().pin(slot_of(block));
        self.is_cut_off.then(lease).flatten()
    }

    /// Makes every expert that is read in place absent.
    pub(super) fn leave_there(&self) {
        let experts = self.first..self.first + self.moved.len();
        for block in experts.map(|index| BlockId::new(index as u32)) {
            if self.supply.is_in_place(block) {
                drop(self.supply.evict(block));
            }
        }
    }
}
