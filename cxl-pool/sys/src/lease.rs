//! Leases: owned rights to the bytes of an extent.
//!
//! - [`FillLease`]: unique; the extent of a slot that is being filled. It is cut into
//!   [`FillPiece`]s, each owned by the operation that writes it until its completion, so a
//!   cancelled fill stays in quarantine by ownership: the extent goes back to its space only
//!   when the last piece has come home.
//! - [`ReadLease`]: a pin on a ready slot; `Send` and `'static`, given back on drop.
//! - [`AppendLease`]: unique; a KV slice that its sequence still appends to.
//! - [`Scratch`]: an extent that never was a block: activations, logits, gathered rows.

use crate::slot::{PartRange, Record, Slot, State};
use crate::space::Extent;
use smallvec::SmallVec;
use std::ptr::NonNull;
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
        let target = Arc::new(FillTarget { extent });
        Ok(FillLease {
            table: Arc::clone(self),
            slot,
            target: Some(target),
        })
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
        Ok(AppendLease {
            table: Arc::clone(self),
            slot,
            scratch: Some(Scratch::new(extent)),
        })
    }

    /// Pins the slot if it is ready.
    pub fn pin(self: &Arc<Self>, slot: usize) -> Option<ReadLease> {
        self.slots[slot].pin().then(|| ReadLease {
            table: Arc::clone(self),
            slot,
        })
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
    target: Option<Arc<FillTarget>>,
}

impl FillLease {
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
            Arc::strong_count(target),
            1,
            "the cutter of a fill is taken once"
        );
        Cutter {
            target: Arc::clone(target),
            next: 0,
        }
    }

    /// Publishes the slot. The cutter and every piece have been dropped by now.
    pub fn publish(mut self, parts: SmallVec<[PartRange; 8]>) {
        let target = self.target.take().expect("kept until the fill ends");
        let target = Arc::try_unwrap(target).expect("no piece in flight when a fill is published");
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
    target: Arc<FillTarget>,
    next: u64,
}

impl Cutter {
    /// Bytes not yet cut.
    pub fn left(&self) -> u64 {
        self.target.extent.len() - self.next
    }

    /// The next `len` bytes (at least one, at most [`Self::left`]) of a mapped extent.
    pub fn cut(&mut self, len: u64) -> FillPiece {
        assert!(
            len > 0 && len <= self.left(),
            "cut {len} of {} bytes",
            self.left()
        );
        let base = self
            .target
            .extent
            .address()
            .expect("pieces are cut from mapped extents");
        // SAFETY: next + len <= the extent's length, so the address stays inside the extent.
        let address = unsafe { base.add(self.next as usize) };
        self.next += len;
        FillPiece {
            _target: Arc::clone(&self.target),
            address,
            len: len as usize,
        }
    }
}

/// Bytes of a fill that one operation writes; it owns them until it has completed.
#[derive(Debug)]
pub struct FillPiece {
    /// Keeps the extent, hence the memory, alive.
    _target: Arc<FillTarget>,
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a piece is the only way to its bytes: cutters give each byte away once, and the record
// is published after the last piece was dropped.
unsafe impl Send for FillPiece {}

impl FillPiece {
    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address for the kernel to write to.
    pub(crate) const fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// The bytes as they are now. No operation is in flight: it would own the piece.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is inside a live extent (`_target`), initialised (mappings start
        // zeroed), and only this piece reaches it.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }

    /// The bytes, to be written by a tier that lives in this process.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.len) }
    }
}

/// Right to read a ready block; a pin.
#[derive(Debug)]
pub struct ReadLease {
    table: Arc<SlotTable>,
    slot: usize,
}

impl ReadLease {
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

/// Unique right to append to a KV slice. Dropped unpublished, the slot is absent again.
#[derive(Debug)]
pub struct AppendLease {
    table: Arc<SlotTable>,
    slot: usize,
    scratch: Option<Scratch>,
}

impl AppendLease {
    /// The slice as it is now.
    pub fn bytes(&self) -> &[u8] {
        self.scratch.as_ref().expect("kept until published").bytes()
    }

    /// The slice, to be appended to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.scratch
            .as_mut()
            .expect("kept until published")
            .bytes_mut()
    }

    /// Index of the slot in its table.
    pub const fn slot(&self) -> usize {
        self.slot
    }

    /// Publishes the full slice of `len` bytes.
    pub fn publish(mut self, len: u64) {
        let extent = self.scratch.take().expect("kept until published").extent;
        assert!(len <= extent.len(), "a slice ends inside its extent");
        let parts = SmallVec::from_slice(&[PartRange { offset: 0, len }]);
        self.table.slots[self.slot].publish(Record { parts, extent });
    }
}

impl Drop for AppendLease {
    fn drop(&mut self) {
        if self.scratch.take().is_some() {
            self.table.slots[self.slot].end_fill(false);
        }
    }
}

/// Memory of a mapped space that one owner reads and writes: activations, logits, staging.
#[derive(Debug)]
pub struct Scratch {
    extent: Extent,
    base: NonNull<u8>,
}

// SAFETY: the scratch owns its extent, hence is the only way to its bytes.
unsafe impl Send for Scratch {}
// SAFETY: `&Scratch` reads only.
unsafe impl Sync for Scratch {}

impl Scratch {
    /// Takes an extent of a mapped space.
    pub fn new(extent: Extent) -> Self {
        let base = extent.address().expect("scratch lives on a mapped space");
        Self { extent, base }
    }

    pub fn bytes(&self) -> &[u8] {
        let len = self.extent.len() as usize;
        // SAFETY: owned extent of initialised memory (mappings start zeroed).
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.extent.len() as usize;
        // SAFETY: as in `bytes`, exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), len) }
    }

    /// The bytes as float32 in the machine's order; extents are page-aligned and whole pages.
    pub fn f32(&self) -> &[f32] {
        let len = self.extent.len() as usize / size_of::<f32>();
        // SAFETY: page-aligned, `len` floats inside the extent, every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), len) }
    }

    pub fn f32_mut(&mut self) -> &mut [f32] {
        let len = self.extent.len() as usize / size_of::<f32>();
        // SAFETY: as in `f32`, exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().cast(), len) }
    }
}

#[cfg(test)]
mod tests;
