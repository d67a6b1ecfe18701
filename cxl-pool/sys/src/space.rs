//! A space: the bytes of one tier, and the extents handed out of it.
//!
//! Life of an extent: allocated from a space, owned by exactly one party (a lease, a slot record,
//! a scratch buffer), given back when dropped. Extents never overlap, so owning one is the right
//! to its bytes. A space of a mapped tier has memory behind it, others count bytes only. A space of
//! a device has memory too, but none that this process may touch, save who plays the device: it
//! has the [`DeviceKey`]. A space that another process lends is read only: it has an owner there,
//! so nothing is allocated, and its extents are views, which may overlap.

mod give_back;
mod lent;

use crate::mapping::Mapping;
use crate::sync::Mutex;
use lent::Lent;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;

/// Granule of allocation, in bytes.
pub const GRANULE: u64 = 4096;

/// The bytes of one tier, with the allocator of their extents.
#[derive(Debug)]
pub struct Space {
    len: u64,
    free: Mutex<FreeMap>,
    memory: Memory,
}

/// What stands behind a space.
#[derive(Debug)]
enum Memory {
    /// Nothing here: the bytes are reached by operations.
    Counted,
    Mapped(Mapping),
    /// Reached with the key only.
    Device(Mapping),
    /// A device has it: its driver reaches the bytes by their offset.
    Foreign,
    /// Another process has it, and keeps it as it is.
    Lent(Lent),
}

/// The right to reach the bytes of one device space: the device's own.
///
/// It proves no right to any particular byte; leases and pieces do that.
#[derive(Debug)]
pub struct DeviceKey {
    space: Arc<Space>,
}

/// Who reaches for bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who<'a> {
    Cpu,
    Device(&'a DeviceKey),
}

impl DeviceKey {
    /// The space that it opens.
    pub const fn space(&self) -> &Arc<Space> {
        &self.space
    }
}

/// Free ranges by start, with usage; everything in bytes and whole granules.
#[derive(Debug)]
struct FreeMap {
    ranges: BTreeMap<u64, u64>,
    used: u64,
    peak: u64,
}

impl Space {
    /// A space over memory.
    pub fn mapped(mapping: Mapping) -> Arc<Self> {
        let len = mapping.len() / GRANULE * GRANULE;
        Self::build(len, Memory::Mapped(mapping))
    }

    /// The space of a simulated device, over memory that the key alone opens.
    pub fn device(mapping: Mapping) -> (Arc<Self>, DeviceKey) {
        let len = mapping.len() / GRANULE * GRANULE;
        let space = Self::build(len, Memory::Device(mapping));
        let key = DeviceKey {
            space: Arc::clone(&space),
        };
        (space, key)
    }

    /// A space that only counts: the bytes are reached by operations.
    pub fn counted(len: u64) -> Arc<Self> {
        Self::build(len / GRANULE * GRANULE, Memory::Counted)
    }

    /// The space of a device with memory of its own, which its driver reaches by offset.
    pub fn foreign(len: u64) -> Arc<Self> {
        Self::build(len / GRANULE * GRANULE, Memory::Foreign)
    }

    fn build(len: u64, memory: Memory) -> Arc<Self> {
        let ranges = if len > 0 {
            BTreeMap::from([(0, len)])
        } else {
            BTreeMap::new()
        };
        let free = Mutex::new(FreeMap {
            ranges,
            used: 0,
            peak: 0,
        });
        Arc::new(Self { len, free, memory })
    }

    /// Takes `bytes`, rounded up to whole granules, from the first hole from the bottom.
    pub fn alloc_low(self: &Arc<Self>, bytes: u64) -> Option<Extent> {
        let len = bytes.max(1).next_multiple_of(GRANULE);
        let mut free = self.free.lock();
        let (&start, &hole) = free.ranges.iter().find(|&(_, &hole)| hole >= len)?;
        free.ranges.remove(&start);
        if hole > len {
            free.ranges.insert(start + len, hole - len);
        }
        free.take(len);
        Some(Extent {
            space: Arc::clone(self),
            start,
            len,
        })
    }

    /// Takes `bytes`, rounded up to whole granules, from the end of the last hole that has them.
    pub fn alloc_high(self: &Arc<Self>, bytes: u64) -> Option<Extent> {
        let len = bytes.max(1).next_multiple_of(GRANULE);
        let mut free = self.free.lock();
        let (&start, &hole) = free.ranges.iter().rev().find(|&(_, &hole)| hole >= len)?;
        free.ranges.remove(&start);
        if hole > len {
            free.ranges.insert(start, hole - len);
        }
        free.take(len);
        Some(Extent {
            space: Arc::clone(self),
            start: start + hole - len,
            len,
        })
    }

    /// Takes exactly `start .. start + bytes`, rounded up to whole granules, if all of it is free.
    pub fn alloc_at(self: &Arc<Self>, start: u64, bytes: u64) -> Option<Extent> {
        assert!(start.is_multiple_of(GRANULE), "extents start on a granule");
        let len = bytes.max(1).next_multiple_of(GRANULE);
        let mut free = self.free.lock();
        let (&hole, &size) = free.ranges.range(..=start).next_back()?;
        if hole + size < start + len {
            return None;
        }
        free.ranges.remove(&hole);
        if hole < start {
            free.ranges.insert(hole, start - hole);
        }
        if hole + size > start + len {
            free.ranges.insert(start + len, hole + size - start - len);
        }
        free.take(len);
        Some(Extent {
            space: Arc::clone(self),
            start,
            len,
        })
    }

    fn release(&self, start: u64, len: u64) {
        if self.is_lent() {
            return;
        }
        let mut free = self.free.lock();
        free.used -= len;
        let (mut start, mut len) = (start, len);
        if let Some((&before, &size)) = free.ranges.range(..start).next_back() {
            assert!(before + size <= start, "extent given back twice at {start}");
            if before + size == start {
                free.ranges.remove(&before);
                (start, len) = (before, size + len);
            }
        }
        if let Some(size) = free.ranges.remove(&(start + len)) {
            len += size;
        }
        free.ranges.insert(start, len);
    }

    /// Bytes of the space.
    pub const fn len(&self) -> u64 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes allocated now.
    pub fn used_bytes(&self) -> u64 {
        self.free.lock().used
    }

    /// Most bytes ever allocated at once.
    pub fn peak_bytes(&self) -> u64 {
        self.free.lock().peak
    }

    /// Largest extent that could be allocated now, in bytes.
    pub fn largest_hole(&self) -> u64 {
        self.free.lock().ranges.values().copied().max().unwrap_or(0)
    }

    /// The memory behind the space, if this process may use it as it likes.
    pub const fn mapping(&self) -> Option<&Mapping> {
        match &self.memory {
            Memory::Mapped(mapping) => Some(mapping),
            Memory::Counted | Memory::Device(_) | Memory::Foreign | Memory::Lent(..) => None,
        }
    }

    /// The bytes are a device's.
    pub const fn is_device(&self) -> bool {
        matches!(self.memory, Memory::Device(_) | Memory::Foreign)
    }
}

impl FreeMap {
    fn take(&mut self, len: u64) {
        self.used += len;
        self.peak = self.peak.max(self.used);
    }
}

/// Contiguous bytes of one space, owned; given back on drop.
#[derive(Debug)]
pub struct Extent {
    space: Arc<Space>,
    start: u64,
    len: u64,
}

impl Extent {
    /// First byte, counted from the start of the space.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Bytes, a whole number of granules.
    pub const fn len(&self) -> u64 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Has the kernel back the extent with huge pages, before its first use, where it does so for
    /// no shared memory by itself.
    pub fn enlarge_pages(&self) {
        if let Some(mapping) = self.space.mapping() {
            mapping.enlarge(self.start, self.len);
        }
    }

    /// The space it belongs to.
    pub const fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Address of the first byte for who is there, to read.
    ///
    /// # Panics
    /// If they have no way to the bytes: the space counts only, or is a device's whose key they do
    /// not have.
    pub(crate) fn address(&self, who: Who<'_>) -> NonNull<u8> {
        match (&self.space.memory, who) {
            (Memory::Lent(lent), Who::Cpu) => self.address_in(lent.mapping.mapping()),
            _ => self.address_mut(who),
        }
    }

    /// Address of the first byte for who is there, to read and to write.
    ///
    /// # Panics
    /// As [`Self::address`], and on memory that is lent.
    pub(crate) fn address_mut(&self, who: Who<'_>) -> NonNull<u8> {
        match (&self.space.memory, who) {
            (Memory::Mapped(mapping), Who::Cpu) => self.address_in(mapping),
            (Memory::Device(mapping), Who::Device(key)) => {
                let is_its_own = Arc::ptr_eq(&self.space, &key.space);
                assert!(is_its_own, "the key is of another device");
                self.address_in(mapping)
            }
            (Memory::Lent(..), Who::Cpu) => panic!("lent memory is only read"),
            (_, Who::Cpu) => panic!("bytes are reached in place on mapped tiers only"),
            (_, Who::Device(_)) => panic!("a device reaches its own bytes only"),
        }
    }

    /// Address in the mapping behind the space.
    fn address_in(&self, mapping: &Mapping) -> NonNull<u8> {
        // SAFETY: the allocator (or `Space::view`, for lent memory) hands out start < len of the
        // space, which the mapping covers.
        unsafe { mapping.base().add(self.start as usize) }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        self.space.release(self.start, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn low_and_high_meet_in_the_middle() {
        let space = Space::counted(10 * GRANULE);
        let low = space.alloc_low(1).expect("room");
        let high = space.alloc_high(2 * GRANULE).expect("room");
        assert_eq!((low.start(), high.start()), (0, 8 * GRANULE));
        assert!(space.alloc_low(8 * GRANULE).is_none());
        let rest = space.alloc_low(7 * GRANULE).expect("exactly what is left");
        assert_eq!(space.used_bytes(), space.len());
        drop((low, rest, high));
        assert_eq!((space.used_bytes(), space.largest_hole()), (0, space.len()));
        assert_eq!(space.peak_bytes(), space.len());
    }

    /// Miri takes a minute for what is a moment otherwise.
    const CASES: u32 = if cfg!(miri) { 4 } else { 256 };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        /// Against a bitmap: extents never overlap, and what is given back can be had again.
        #[test]
        fn extents_never_overlap(
            ops in prop::collection::vec((0..4u8, 1..9u64, 0..64usize), 1..200),
        ) {
            let space = Space::counted(64 * GRANULE);
            let mut held: Vec<Extent> = Vec::new();
            for (op, granules, pick) in ops {
                let got = match op {
                    0 => space.alloc_low(granules * GRANULE),
                    1 => space.alloc_high(granules * GRANULE),
                    2 => space.alloc_at(pick as u64 * GRANULE, granules * GRANULE),
                    _ => {
                        if !held.is_empty() {
                            let index = pick % held.len();
                            drop(held.swap_remove(index));
                        }
                        None
                    }
                };
                held.extend(got);
                let mut map = [false; 64];
                for extent in &held {
                    for granule in 0..extent.len() / GRANULE {
                        let at = (extent.start() / GRANULE + granule) as usize;
                        prop_assert!(!map[at]);
                        map[at] = true;
                    }
                }
                let used = map.iter().filter(|&&taken| taken).count() as u64 * GRANULE;
                prop_assert_eq!(space.used_bytes(), used);
            }
            held.clear();
            prop_assert_eq!(space.largest_hole(), space.len());
        }
    }
}
