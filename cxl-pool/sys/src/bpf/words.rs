//! A BPF array in this process's memory. Others change it at any time, programs in the kernel and
//! processes that map it too, so it is made of atomic words and nothing else.

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

const WORD_BYTES: usize = size_of::<AtomicU64>();

/// A mapped array, unmapped on drop.
#[derive(Debug)]
pub struct ArrayWords {
    base: NonNull<AtomicU64>,
    words_per_entry: usize,
    entries: usize,
}

// SAFETY: the mapping belongs to the process and not to a thread, and holds atomics only.
unsafe impl Send for ArrayWords {}
// SAFETY: as above; shared access is atomic access.
unsafe impl Sync for ArrayWords {}

impl ArrayWords {
    /// Maps the array behind `fd`, which holds `entries` of `value_bytes`, for reading and writing.
    ///
    /// The kernel gives every entry a whole number of words.
    pub(super) fn map(fd: impl AsFd, value_bytes: u32, entries: u32) -> Result<Self, Errno> {
        let words_per_entry = (value_bytes as usize).div_ceil(WORD_BYTES);
        let entries = entries as usize;
        let bytes = NonZeroUsize::new(words_per_entry * entries * WORD_BYTES);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; the kernel
        // refuses one that is longer than the array.
        let base = unsafe {
            mmap(
                None,
                bytes.ok_or(Errno::EINVAL)?,
                protection,
                MapFlags::MAP_SHARED,
                fd,
                0,
            )
        }?;
        Ok(Self {
            base: base.cast(),
            words_per_entry,
            entries,
        })
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Words of entry `index`, which exists.
    pub fn entry(&self, index: usize) -> &[AtomicU64] {
        assert!(index < self.entries, "an entry of the array");
        // SAFETY:
        // 1. The mapping is `entries` times `words_per_entry` words long and `index` is below
        //    `entries`, so the slice lies inside; it starts at a page, so words are aligned.
        // 2. It lives as long as `self`, since only drop unmaps it.
        // 3. All sides change it by word, so atomic reads see whole words; any word is a value.
        unsafe {
            let start = self.base.add(index * self.words_per_entry);
            std::slice::from_raw_parts(start.as_ptr(), self.words_per_entry)
        }
    }
}

impl Drop for ArrayWords {
    fn drop(&mut self) {
        let bytes = self.words_per_entry * self.entries * WORD_BYTES;
        // SAFETY: the range is this mapping's own, and no slice of it outlives `self`. The kernel
        // rounds the length up to whole pages, as it did when it was mapped.
        let _ = unsafe { munmap(self.base.cast(), bytes) };
    }
}
