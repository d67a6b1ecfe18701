//! Memory of one owner: scratch buffers, and the slices that a sequence appends to.

use super::SlotTable;
use crate::slot::{PartRange, Record};
use crate::space::{DeviceKey, Extent, Who};
use smallvec::SmallVec;
use std::sync::Arc;

/// Memory that one owner reads and writes: activations, logits, staging. On a device only the
/// device does, through the methods that take its key.
#[derive(Debug)]
pub struct Scratch {
    extent: Extent,
}

impl Scratch {
    /// Takes an extent of a mapped space or of a device.
    pub fn new(extent: Extent) -> Self {
        assert!(
            extent.space().mapping().is_some() || extent.space().is_device(),
            "scratch lives where there is memory"
        );
        Self { extent }
    }

    /// The bytes are a device's.
    pub fn is_on_device(&self) -> bool {
        self.extent.space().is_device()
    }

    /// First byte and bytes of the extent, in its space.
    pub fn extent(&self) -> (u64, u64) {
        (self.extent.start(), self.extent.len())
    }

    pub fn bytes(&self) -> &[u8] {
        self.slice(Who::Cpu)
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.slice_mut(Who::Cpu)
    }

    /// The bytes as float32 in the machine's order; extents are page-aligned and whole pages.
    pub fn f32(&self) -> &[f32] {
        self.slice(Who::Cpu)
    }

    pub fn f32_mut(&mut self) -> &mut [f32] {
        self.slice_mut(Who::Cpu)
    }

    /// The bytes, for the device that holds them.
    pub fn device_bytes(&self, key: &DeviceKey) -> &[u8] {
        self.slice(Who::Device(key))
    }

    pub fn device_bytes_mut(&mut self, key: &DeviceKey) -> &mut [u8] {
        self.slice_mut(Who::Device(key))
    }

    /// The bytes as float32, for the device that holds them.
    pub fn device_f32(&self, key: &DeviceKey) -> &[f32] {
        self.slice(Who::Device(key))
    }

    pub fn device_f32_mut(&mut self, key: &DeviceKey) -> &mut [f32] {
        self.slice_mut(Who::Device(key))
    }

    fn slice<T: Plain>(&self, who: Who<'_>) -> &[T] {
        let len = self.extent.len() as usize / size_of::<T>();
        let base = self.extent.address(who).as_ptr().cast();
        // SAFETY: 1. `base` is the first byte of our own extent: page-aligned, `len` elements
        // inside it. 2. Mappings start zeroed and every bit pattern is a `T` (`Plain`). 3. The
        // scratch owns the extent, and `&self` forbids writing.
        unsafe { std::slice::from_raw_parts(base, len) }
    }

    fn slice_mut<T: Plain>(&mut self, who: Who<'_>) -> &mut [T] {
        let len = self.extent.len() as usize / size_of::<T>();
        let base = self.extent.address_mut(who).as_ptr().cast();
        // SAFETY: as in `slice`, exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(base, len) }
    }
}

/// Numbers that memory of any contents may be read as.
///
/// # Safety
/// Every bit pattern is a value, and a page is aligned enough.
unsafe trait Plain {}

// SAFETY: any byte is one.
unsafe impl Plain for u8 {}
// SAFETY: any four bytes are one, some of them NaN; aligned to 4.
unsafe impl Plain for f32 {}

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

    /// The slice on a device, for that device.
    pub fn device_bytes(&self, key: &DeviceKey) -> &[u8] {
        let scratch = self.scratch.as_ref().expect("kept until published");
        scratch.device_bytes(key)
    }

    /// The slice on a device, to be appended to by that device.
    pub fn device_bytes_mut(&mut self, key: &DeviceKey) -> &mut [u8] {
        let scratch = self.scratch.as_mut().expect("kept until published");
        scratch.device_bytes_mut(key)
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
