//! Leases to read a ready block, whole or by pieces.

use super::SlotTable;
use crate::slot::{PartRange, Record};
use std::sync::Arc;

/// Right to read a ready block; a pin.
#[derive(Debug)]
pub struct ReadLease {
    table: Arc<SlotTable>,
    slot: usize,
}

impl ReadLease {
    /// The lease of a pin that has just been taken.
    pub(super) fn of_pin(table: &Arc<SlotTable>, slot: usize) -> Self {
        Self {
            table: Arc::clone(table),
            slot,
        }
    }

    fn record(&self) -> &Record {
        // SAFETY: this lease is a pin, and the reference cannot outlive it.
        unsafe { self.table.slots[self.slot].record() }
    }

    /// Index of the slot in its table.
    pub const fn slot(&self) -> usize {
        self.slot
    }

    /// First byte of the block's extent in its space, and the extent's bytes.
    pub fn extent(&self) -> (u64, u64) {
        let extent = &self.record().extent;
        (extent.start(), extent.len())
    }

    /// `len` bytes of the extent from `offset`, for one operation to read; a pin of its own.
    pub fn piece(&self, offset: u64, len: u64) -> ReadPiece {
        let whole = self.record().extent.len();
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= whole),
            "piece {offset}+{len} of {whole} bytes"
        );
        ReadPiece {
            lease: self.clone(),
            offset,
            len: len as usize,
        }
    }

    /// Parts of the block.
    pub fn parts(&self) -> usize {
        self.record().parts.len()
    }

    /// Where part `index` stands in the extent.
    pub fn part_range(&self, index: usize) -> PartRange {
        self.record().parts[index]
    }

    /// Bytes of part `index`.
    ///
    /// # Panics
    /// On a tier that is not mapped: there bytes arrive by an operation only.
    pub fn part(&self, index: usize) -> &[u8] {
        let record = self.record();
        let part = record.parts[index];
        let base = record
            .extent
            .address()
            .expect("bytes are read in place on mapped tiers only");
        // SAFETY: `publish` checked that the part ends inside its extent; the record owns the
        // extent, nobody writes it while the slot is ready, and the pin keeps it ready.
        unsafe {
            std::slice::from_raw_parts(base.as_ptr().add(part.offset as usize), part.len as usize)
        }
    }
}

impl Clone for ReadLease {
    fn clone(&self) -> Self {
        assert!(
            self.table.slots[self.slot].pin(),
            "a pinned slot stays ready"
        );
        Self {
            table: Arc::clone(&self.table),
            slot: self.slot,
        }
    }
}

impl Drop for ReadLease {
    fn drop(&mut self) {
        self.table.slots[self.slot].unpin();
    }
}

/// Bytes of a ready block that one operation reads; it pins the block until it has completed.
#[derive(Debug)]
pub struct ReadPiece {
    lease: ReadLease,
    offset: u64,
    len: usize,
}

impl ReadPiece {
    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let record = self.lease.record();
        let base = record
            .extent
            .address()
            .expect("pieces are of mapped extents");
        // SAFETY: `piece` checked that the range is inside the extent, which the record owns;
        // nobody writes it while the slot is ready, and the pin keeps it ready.
        unsafe { std::slice::from_raw_parts(base.as_ptr().add(self.offset as usize), self.len) }
    }
}
