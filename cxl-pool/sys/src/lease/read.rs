//! Leases to read a ready block, whole or by pieces.

use super::{FillPiece, SlotTable};
use crate::slot::{PartRange, Record};
use crate::space::{DeviceKey, Who};
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
        ReadPiece(Bytes::Pinned {
            lease: self.clone(),
            range: PartRange { offset, len },
        })
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
        self.slice(Who::Cpu, self.part_range(index))
    }

    /// Bytes of part `index` for the device that holds them.
    pub fn device_part(&self, key: &DeviceKey, index: usize) -> &[u8] {
        self.slice(Who::Device(key), self.part_range(index))
    }

    /// The bytes are a device's.
    pub fn is_on_device(&self) -> bool {
        self.record().extent.space().is_device()
    }

    /// The bytes are another process's, which lends them.
    pub fn is_lent(&self) -> bool {
        self.record().extent.space().is_lent()
    }

    fn slice(&self, who: Who<'_>, range: PartRange) -> &[u8] {
        let extent = &self.record().extent;
        debug_assert!(
            range.offset + range.len <= extent.len(),
            "inside the extent"
        );
        let base = extent.address(who).as_ptr();
        // SAFETY: 1. `publish` (of parts) or `piece` (of pieces) checked that the range ends
        // inside the extent. 2. The record owns the extent, nobody writes it while the slot is
        // ready, and this pin keeps it ready.
        unsafe { std::slice::from_raw_parts(base.add(range.offset as usize), range.len as usize) }
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

/// Bytes that one operation reads: of a ready block, which they pin until it has completed, or of
/// staging memory.
#[derive(Debug)]
pub struct ReadPiece(Bytes);

#[derive(Debug)]
enum Bytes {
    /// The range is inside the extent of the lease.
    Pinned {
        lease: ReadLease,
        range: PartRange,
    },
    Own(FillPiece),
}

impl ReadPiece {
    pub const fn len(&self) -> usize {
        match &self.0 {
            Bytes::Pinned { range, .. } => range.len as usize,
            Bytes::Own(piece) => piece.len(),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// First byte of the piece, counted from the start of its space.
    pub fn offset(&self) -> u64 {
        match &self.0 {
            Bytes::Pinned { lease, range } => lease.extent().0 + range.offset,
            Bytes::Own(piece) => piece.offset(),
        }
    }

    /// The bytes are a device's, see [`Self::device_bytes`].
    pub fn is_on_device(&self) -> bool {
        match &self.0 {
            Bytes::Pinned { lease, .. } => lease.is_on_device(),
            Bytes::Own(piece) => piece.is_on_device(),
        }
    }

    /// The bytes.
    ///
    /// # Panics
    /// On a tier that is not mapped.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Pinned { lease, range } => lease.slice(Who::Cpu, *range),
            Bytes::Own(piece) => piece.bytes(),
        }
    }

    /// The bytes, for the device that holds them.
    pub fn device_bytes(&self, key: &DeviceKey) -> &[u8] {
        match &self.0 {
            Bytes::Pinned { lease, range } => lease.slice(Who::Device(key), *range),
            Bytes::Own(piece) => piece.device_bytes(key),
        }
    }
}

impl From<FillPiece> for ReadPiece {
    /// What was filled is read from now on.
    fn from(piece: FillPiece) -> Self {
        Self(Bytes::Own(piece))
    }
}
