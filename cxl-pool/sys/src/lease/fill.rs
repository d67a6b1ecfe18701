//! Leases to fill a slot: the right itself, the cutter of its extent, and the pieces.

use super::SlotTable;
use crate::slot::{PartRange, Record};
use crate::space::{DeviceKey, Extent, Who};
use crate::sync;
use smallvec::SmallVec;
use std::ptr::NonNull;
use std::sync::Arc;

/// The extent under a fill, kept by the lease and by every piece in flight.
#[derive(Debug)]
struct FillTarget {
    extent: Extent,
}

/// Unique right to fill a slot. Dropped without an ending, the slot is absent again.
#[derive(Debug)]
pub struct FillLease {
    table: Arc<SlotTable>,
    slot: usize,
    target: Option<sync::Arc<FillTarget>>,
}

impl FillLease {
    /// The lease of a slot that has just gone to `Filling`.
    pub(super) fn new(table: &Arc<SlotTable>, slot: usize, extent: Extent) -> Self {
        Self {
            table: Arc::clone(table),
            slot,
            target: Some(sync::Arc::new(FillTarget { extent })),
        }
    }

    /// Index of the slot in its table.
    pub const fn slot(&self) -> usize {
        self.slot
    }

    /// The extent that is being filled.
    pub fn extent(&self) -> &Extent {
        &self
            .target
            .as_ref()
            .expect("kept until the fill ends")
            .extent
    }

    /// The cutter of the extent; it may be taken once. It gives the extent away front to back, so
    /// no two pieces share a byte.
    pub fn cutter(&mut self) -> Cutter {
        let target = self.target.as_ref().expect("kept until the fill ends");
        assert_eq!(
            sync::Arc::strong_count(target),
            1,
            "the cutter of a fill is taken once"
        );
        Cutter {
            target: sync::Arc::clone(target),
            next: 0,
        }
    }

    /// What stands in the extent, which another process lends and nobody fills.
    ///
    /// # Panics
    /// On memory of our own: there its pieces are the only way to the bytes.
    pub fn lent_bytes(&self) -> &[u8] {
        let extent = self.extent();
        assert!(extent.space().is_lent(), "pieces fill memory of our own");
        let base = extent.address(Who::Cpu);
        // SAFETY: the range is the extent, which `target` keeps; who lends it keeps its bytes as
        // they are while the space lives, and nobody here has an address to write to.
        unsafe { std::slice::from_raw_parts(base.as_ptr(), extent.len() as usize) }
    }

    /// Publishes the slot. The cutter and every piece have been dropped by now.
    pub fn publish(mut self, parts: SmallVec<[PartRange; 8]>) {
        let target = self.target.take().expect("kept until the fill ends");
        let target =
            sync::Arc::try_unwrap(target).expect("no piece in flight when a fill is published");
        for part in &parts {
            let end = part
                .offset
                .checked_add(part.len)
                .expect("part ends inside its extent");
            assert!(
                end <= target.extent.len(),
                "part {part:?} ends inside its extent"
            );
        }
        self.table.slots[self.slot].publish(Record {
            parts,
            extent: target.extent,
        });
    }

    /// Ends the fill as failed: the slot is poisoned until its owner clears it.
    pub fn poison(mut self) {
        self.target = None;
        self.table.slots[self.slot].end_fill(true);
    }
}

impl Drop for FillLease {
    fn drop(&mut self) {
        if self.target.take().is_some() {
            self.table.slots[self.slot].end_fill(false);
        }
    }
}

/// Gives the extent of a fill away, front to back.
#[derive(Debug)]
pub struct Cutter {
    target: sync::Arc<FillTarget>,
    next: u64,
}

impl Cutter {
    /// Bytes not yet cut.
    pub fn left(&self) -> u64 {
        self.target.extent.len() - self.next
    }

    /// The next `len` bytes (at least one, at most [`Self::left`]).
    pub fn cut(&mut self, len: u64) -> FillPiece {
        assert!(
            len > 0 && len <= self.left(),
            "cut {len} of {} bytes",
            self.left()
        );
        let start = self.next;
        self.next += len;
        FillPiece {
            target: sync::Arc::clone(&self.target),
            start,
            len: len as usize,
        }
    }
}

/// Bytes of a fill that one operation writes; it owns them until it has completed.
///
/// A piece is the only way to its bytes: cutters give each byte away once, and the record is
/// published after the last piece was dropped.
#[derive(Debug)]
pub struct FillPiece {
    /// Keeps the extent, hence the memory, alive.
    target: sync::Arc<FillTarget>,
    /// First byte, counted from the start of the extent; `start + len` is inside it.
    start: u64,
    len: usize,
}

impl FillPiece {
    /// The first `len` bytes of an extent that is no block's: staging.
    pub fn of(extent: Extent, len: u64) -> Self {
        assert!(
            len > 0 && len <= extent.len(),
            "a piece of {len} of {} bytes",
            extent.len()
        );
        Self {
            target: sync::Arc::new(FillTarget { extent }),
            start: 0,
            len: len as usize,
        }
    }

    /// First byte of the piece, counted from the start of its space.
    pub fn offset(&self) -> u64 {
        self.target.extent.start() + self.start
    }

    /// The bytes are a device's, see [`Self::device_bytes`].
    pub fn is_on_device(&self) -> bool {
        self.target.extent.space().is_device()
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address for the kernel to write to.
    ///
    /// # Panics
    /// On a tier that is not mapped.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address_mut(Who::Cpu)
    }

    fn address_mut(&self, who: Who<'_>) -> NonNull<u8> {
        self.within(self.target.extent.address_mut(who))
    }

    /// The piece's first byte, by that of its extent.
    fn within(&self, base: NonNull<u8>) -> NonNull<u8> {
        // SAFETY: `base` is the extent's first byte, and who made the piece checked that it is
        // inside the extent.
        unsafe { base.add(self.start as usize) }
    }

    fn slice(&self, who: Who<'_>) -> &[u8] {
        let first = self.within(self.target.extent.address(who));
        // SAFETY: the range is inside a live extent (`target`), initialised (mappings start
        // zeroed), and only this piece reaches it, or nobody writes it (lent memory).
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.len) }
    }

    fn slice_mut(&mut self, who: Who<'_>) -> &mut [u8] {
        // SAFETY: as in `slice`, and `&mut self` makes it the only access; lent memory has no
        // address to write to.
        unsafe { std::slice::from_raw_parts_mut(self.address_mut(who).as_ptr(), self.len) }
    }

    /// The bytes as they are now. No operation is in flight: it would own the piece.
    pub fn bytes(&self) -> &[u8] {
        self.slice(Who::Cpu)
    }

    /// The bytes, to be written by a tier that lives in this process.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.slice_mut(Who::Cpu)
    }

    /// The bytes as they are now, for the device that holds them.
    pub fn device_bytes(&self, key: &DeviceKey) -> &[u8] {
        self.slice(Who::Device(key))
    }

    /// The bytes, to be written by the device that holds them.
    pub fn device_bytes_mut(&mut self, key: &DeviceKey) -> &mut [u8] {
        self.slice_mut(Who::Device(key))
    }
}
