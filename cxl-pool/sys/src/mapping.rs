//! Memory mappings on the largest pages that the machine gives.

mod populate;
mod shared;

pub use shared::{LentError, LentMapping};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use shared::Backing;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// Size of a huge page on x86-64 and of a page-table step on aarch64 with 4 KiB pages.
const HUGE_PAGE: usize = 2 << 20;

/// NUMA nodes that a mask names.
const NODES_MAX: usize = 1024;

/// Memory could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("map {bytes} bytes of memory: {errno}; give a smaller --fast")]
pub struct MapError {
    pub bytes: u64,
    pub errno: nix::errno::Errno,
}

/// Memory could not be bound to a NUMA node.
#[derive(Debug, thiserror::Error)]
#[error("bind memory to numa node {node}: {errno}; see /sys/devices/system/node for what is there")]
pub struct BindError {
    pub node: u32,
    pub errno: nix::errno::Errno,
}

/// What stands behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Reserved 2 MiB pages of the hugetlb pool.
    Hugetlb,
    /// Ordinary memory, with huge pages asked for by `madvise`.
    Transparent,
    /// Too small for huge pages.
    Small,
}

impl PageKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hugetlb => "2 MiB hugetlb pages",
            Self::Transparent => "transparent huge pages",
            Self::Small => "4 KiB pages",
        }
    }
}

/// Memory, zero at first, unmapped on drop: private, or shared by a descriptor.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Start and length of what the kernel mapped, with the slack that alignment needed.
    raw: (NonNull<libc::c_void>, usize),
    kind: PageKind,
    /// Its pages may go back to the kernel one by one, so nobody may pin or register them.
    may_shrink: bool,
    /// What is behind shared memory.
    file: Option<Backing>,
}

// SAFETY: a mapping is plain memory; it hands out addresses only inside this crate, where slots
// and leases decide who may touch which bytes.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives a base address and a length, no access.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` (more than zero): hugetlb if the pool has the pages, else huge pages by advice.
    pub fn new(bytes: u64) -> Result<Self, MapError> {
        let len = bytes as usize;
        assert!(len > 0, "a mapping has at least one byte");
        if len < HUGE_PAGE {
            return Self::map(len, 0, MapFlags::empty(), PageKind::Small);
        }
        let round = len.next_multiple_of(HUGE_PAGE);
        if let Ok(mut mapping) = Self::map(round, 0, MapFlags::MAP_HUGETLB, PageKind::Hugetlb) {
            mapping.len = len;
            return Ok(mapping);
        }
        Self::transparent(len)
    }

    /// Maps `bytes` (more than zero) of memory whose pages can go back to the kernel while the
    /// mapping stays: none of the hugetlb pool, which nobody else could use, and none that a
    /// driver pins.
    pub fn that_shrinks(bytes: u64) -> Result<Self, MapError> {
        let len = bytes as usize;
        assert!(len > 0, "a mapping has at least one byte");
        let mut mapping = if len < HUGE_PAGE {
            Self::map(len, 0, MapFlags::empty(), PageKind::Small)?
        } else {
            Self::transparent(len)?
        };
        mapping.may_shrink = true;
        Ok(mapping)
    }

    /// Ordinary memory with huge pages asked for.
    fn transparent(len: usize) -> Result<Self, MapError> {
        let mapping = Self::map(
            len,
            HUGE_PAGE,
            MapFlags::MAP_NORESERVE,
            PageKind::Transparent,
        )?;
        // SAFETY: the range is ours, just mapped; the advice changes no contents. A kernel
        // without huge pages refuses it, and then small pages do.
        let _ = unsafe { madvise(mapping.base.cast(), mapping.len, MmapAdvise::MADV_HUGEPAGE) };
        Ok(mapping)
    }

    fn map(len: usize, align: usize, extra: MapFlags, kind: PageKind) -> Result<Self, MapError> {
        let raw_len = len + align;
        let size = NonZeroUsize::new(raw_len).expect("checked to be above zero by the caller");
        let flags = MapFlags::MAP_PRIVATE | extra;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
        let raw = unsafe {
            mmap_anonymous(
                None,
                size,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                flags,
            )
        }
        .map_err(|errno| MapError {
            bytes: len as u64,
            errno,
        })?;
        let skip = if align == 0 {
            0
        } else {
            raw.as_ptr().align_offset(align)
        };
        // SAFETY: `skip` < `align`, so base and base + len stay inside the mapping of len + align.
        let base = unsafe { raw.cast::<u8>().add(skip) };
        Ok(Self {
            base,
            len,
            raw: (raw, raw_len),
            kind,
            may_shrink: false,
            file: None,
        })
    }

    /// Takes the pages, none of which has been touched, from one NUMA node only.
    ///
    /// Source: mbind(2), `MPOL_BIND`.
    pub fn bind(&self, node: u32) -> Result<(), BindError> {
        let mut mask = [0u64; NODES_MAX / 64];
        let errno = |errno| BindError { node, errno };
        let word = mask
            .get_mut(node as usize / 64)
            .ok_or(errno(nix::errno::Errno::EINVAL))?;
        *word = 1 << (node % 64);
        // SAFETY: the range is this mapping's own, whole pages of it; the mask outlives the call,
        // and its length in bits is the one given. The policy changes no contents.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.raw.0.as_ptr(),
                self.raw.1,
                libc::MPOL_BIND,
                mask.as_ptr(),
                NODES_MAX + 1,
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(errno(nix::errno::Errno::last()))
        }
    }

    /// First byte; of private memory aligned to 2 MiB from 2 MiB on, else to a page.
    pub(crate) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Usable bytes.
    pub const fn len(&self) -> u64 {
        self.len as u64
    }

    /// A mapping is never empty; clippy wants the pair.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub const fn kind(&self) -> PageKind {
        self.kind
    }

    /// Its pages may go back to the kernel one by one.
    pub const fn may_shrink(&self) -> bool {
        self.may_shrink
    }

    /// Gives the whole pages of `start .. start + len` back to the kernel; they are zero when they
    /// are next touched. `false` if the mapping is not one that shrinks, or the kernel refuses.
    ///
    /// Source: madvise(2), `MADV_DONTNEED` on private anonymous memory.
    ///
    /// # Safety
    /// The range is inside the mapping, and until the call returns nobody reads or writes it, in
    /// this process or by an operation in flight, nor relies on what stands there.
    pub(crate) unsafe fn give_back(&self, start: u64, len: u64) -> bool {
        if !self.may_shrink || len == 0 {
            return false;
        }
        let end = start.checked_add(len).expect("inside the mapping");
        assert!(end <= self.len(), "inside the mapping");
        // SAFETY: `start` < the length of the mapping, asserted above.
        let first = unsafe { self.base.add(start as usize) };
        // SAFETY: 1. the range is inside this mapping, which is ours, private and anonymous.
        // 2. Nobody uses its bytes: the caller's promise. 3. No driver has pinned its pages, which
        // would leave the driver with others than ours: `UringDriver` asks `may_shrink` first.
        let outcome = unsafe { madvise(first.cast(), len as usize, MmapAdvise::MADV_DONTNEED) };
        outcome.is_ok()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `raw` is exactly what mmap returned, unmapped once; extents keep the space, and
        // with it this mapping, alive as long as anybody holds an address.
        let result = unsafe { munmap(self.raw.0, self.raw.1) };
        debug_assert!(result.is_ok(), "unmapping our own range cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_length_can_be_written_whatever_the_pages() {
        for bytes in [1, 4096, (2 << 20) - 1, 2 << 20, (6 << 20) + 4096] {
            let mapping = Mapping::new(bytes).expect("memory");
            assert_eq!((mapping.len(), mapping.is_empty()), (bytes, false));
            let base = mapping.base().as_ptr();
            // SAFETY: a fresh mapping of `bytes` bytes that nobody else holds.
            let memory = unsafe { std::slice::from_raw_parts_mut(base, bytes as usize) };
            assert!(memory.iter().all(|&byte| byte == 0), "{:?}", mapping.kind());
            memory.fill(0xA5);
        }
    }

    #[test]
    fn memory_is_bound_to_a_node_that_exists() {
        let mapping = Mapping::new(4 << 20).expect("memory");
        match mapping.bind(0) {
            Ok(()) => {}
            Err(error) if error.errno == nix::errno::Errno::ENOSYS => {
                println!("skipped: this kernel has no numa policies");
                return;
            }
            Err(error) => panic!("{error}"),
        }
        let error = mapping.bind(1000).expect_err("no such node");
        assert!(error.to_string().contains("1000"));
        assert!(mapping.bind(5000).is_err());
    }
}
