//! Memory of one owner: scratch buffers, and the slices that a sequence appends to.

use super::SlotTable;
use crate::slot::{PartRange, Record};
use crate::space::Extent;
use smallvec::SmallVec;
use std::ptr::NonNull;
use std::sync::Arc;

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

/// Unique right to append to a KV slice. Dropped unpublished, the slot is absent again.
#[derive(Debug)]
pub struct AppendLease {
    table: Arc<SlotTable>,
    slot: usize,
    scratch: Option<Scratch>,
}

impl AppendLease {
    /// The lease of a slot that has just gone to `Filling`.
    pub(super) fn new(table: &Arc<SlotTable>, slot: usize, scratch: Scratch) -> Self {
        Self {
            table: Arc::clone(table),
            slot,
            scratch: Some(scratch),
        }
    }

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
