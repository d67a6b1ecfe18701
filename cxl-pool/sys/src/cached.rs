//! The page cache of one file: how much of it is there, bringing in what is not, keeping it.
//!
//! The file is mapped, so that the kernel can be asked about its pages; nothing here ever reads
//! through the mapping, so a file that is cut short meanwhile harms nobody.
//!
//! Source: cachestat(2), mincore(2), posix_fadvise(2), mlock(2); Linux `mm/readahead.c` for how
//! much one call brings.

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::mman::{MapFlags, ProtFlags, mlock, mmap, munlock, munmap};
use nix::unistd::{AccessFlags, access, geteuid};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of a page of the page cache, as `mincore` counts them.
pub const PAGE: u64 = 4096;

/// Number of cachestat(2), the same on every processor.
const CACHESTAT: libc::c_long = 451;

/// What one advice brings at least: the kernel cuts longer ones to the device's read-ahead.
const ADVICE: u64 = 128 << 10;

/// An open file whose page cache is looked at.
#[derive(Debug)]
pub struct CachedFile {
    file: File,
    base: NonNull<libc::c_void>,
    bytes: u64,
    /// The kernel counts pages itself (Linux 6.5 and later).
    can_count: AtomicBool,
}

// SAFETY: the mapping is only ever named in calls to the kernel, which may come from any thread.
unsafe impl Send for CachedFile {}
// SAFETY: as above; no method writes anything but the atomic.
unsafe impl Sync for CachedFile {}

impl CachedFile {
    /// Looks at the first `bytes` of `file`, more than zero.
    pub fn new(file: File, bytes: u64) -> io::Result<Self> {
        let size = NonZeroUsize::new(bytes as usize).ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            mmap(
                None,
                size,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                &file,
                0,
            )
        }?;
        Ok(Self {
            file,
            base,
            bytes,
            can_count: AtomicBool::new(true),
        })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of `range`, which starts at a page, that are in the page cache, in whole pages.
    pub fn resident_bytes(&self, range: Range<u64>) -> io::Result<u64> {
        if self.can_count.load(Relaxed) {
            match self.count(&range) {
                Ok(pages) => return Ok(pages * PAGE),
                // Older kernels, and filters that do not know the call.
                Err(Errno::ENOSYS) => self.can_count.store(false, Relaxed),
                Err(Errno::EPERM) if self.is_seen() => self.can_count.store(false, Relaxed),
                Err(errno) => return Err(errno.into()),
            }
        }
        let pages = self.resident_pages(range)?;
        Ok(pages.into_iter().filter(|is_there| *is_there).count() as u64 * PAGE)
    }

    /// Whether the kernel tells us of its pages: it does to the file's owner and to who may write
    /// it. To others `mincore` says that everything is there.
    fn is_seen(&self) -> bool {
        let owner = self.file.metadata().map(|of| of.uid());
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        owner.is_ok_and(|owner| owner == geteuid().as_raw())
            || access(path.as_str(), AccessFlags::W_OK).is_ok()
    }

    /// cachestat(2).
    fn count(&self, range: &Range<u64>) -> Result<u64, Errno> {
        let range = [range.start, range.end.saturating_sub(range.start)];
        // `struct cachestat`: pages cached, dirty, being written, evicted, evicted lately.
        let mut found = [0u64; 5];
        // SAFETY: the kernel reads two words of `range` and writes five of `found`, which both
        // outlive the call.
        let code = unsafe {
            libc::syscall(
                CACHESTAT,
                self.file.as_raw_fd(),
                range.as_ptr(),
                found.as_mut_ptr(),
                0,
            )
        };
        Errno::result(code)?;
        Ok(found[0])
    }

    /// For each page of `range`, which starts at a page and lies in the file, whether it is in the
    /// page cache.
    pub fn resident_pages(&self, range: Range<u64>) -> io::Result<Vec<bool>> {
        let (start, bytes) = self.part(&range);
        let mut pages = vec![0u8; bytes.div_ceil(PAGE as usize)];
        if pages.is_empty() {
            return Ok(Vec::new());
        }
        // SAFETY: `part` lies in the mapping, and the kernel writes one byte per page of it.
        let code = unsafe { libc::mincore(start.as_ptr(), bytes, pages.as_mut_ptr()) };
        Errno::result(code)?;
        Ok(pages.into_iter().map(|page| page & 1 == 1).collect())
    }

    /// Asks the kernel to read `range` into the page cache; it does not wait for the bytes.
    pub fn bring(&self, range: Range<u64>) -> io::Result<()> {
        let mut start = range.start;
        while start < range.end {
            let bytes = ADVICE.min(range.end - start);
            let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
            posix_fadvise(&self.file, start as i64, bytes as i64, advice)?;
            start += bytes;
        }
        Ok(())
    }

    /// Reads `range`, which starts at a page, and keeps it in memory until `release`.
    pub fn keep(&self, range: Range<u64>) -> io::Result<()> {
        let (start, bytes) = self.part(&range);
        // SAFETY: `part` lies in the mapping; locking changes no contents.
        Ok(unsafe { mlock(start, bytes) }?)
    }

    /// Lets the kernel take the pages of `range` again.
    pub fn release(&self, range: Range<u64>) -> io::Result<()> {
        let (start, bytes) = self.part(&range);
        // SAFETY: `part` lies in the mapping; unlocking changes no contents.
        Ok(unsafe { munlock(start, bytes) }?)
    }

    /// Address and length of `range` in the mapping, cut where the mapping ends.
    fn part(&self, range: &Range<u64>) -> (NonNull<libc::c_void>, usize) {
        assert!(range.start.is_multiple_of(PAGE), "a range starts at a page");
        let end = range.end.min(self.bytes);
        let start = range.start.min(end);
        // SAFETY: `start` is within the mapping of `bytes`, or at its end.
        let address = unsafe { self.base.byte_add(start as usize) };
        (address, (end - start) as usize)
    }
}

impl Drop for CachedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody has an address into it. It fails for no mapping
        // that exists.
        let _ = unsafe { munmap(self.base, self.bytes as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A file of `pages` on a disk, written through.
    fn file(pages: u64) -> File {
        let folder = std::env::current_dir().expect("the crate's folder");
        let made = tempfile::tempfile_in(folder).or_else(|_| tempfile::tempfile());
        let mut file = made.expect("a file");
        file.write_all(&vec![7; (pages * PAGE) as usize])
            .expect("written");
        file.sync_all().expect("on the disk");
        file
    }

    #[test]
    fn pages_are_counted_and_brought() {
        let cached = CachedFile::new(file(64), 64 * PAGE).expect("mapped");
        let whole = 0..64 * PAGE;
        let resident = |range: Range<u64>| cached.resident_bytes(range).expect("counted");
        cached.bring(whole.clone()).expect("asked");
        cached.keep(8 * PAGE..16 * PAGE).expect("within the limit");
        assert_eq!(resident(8 * PAGE..16 * PAGE), 8 * PAGE);
        cached.release(8 * PAGE..16 * PAGE).expect("locked before");
        let dropped = posix_fadvise(cached.file(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        dropped.expect("advised");
        let pages = cached.resident_pages(whole.clone()).expect("counted");
        assert_eq!(pages.len(), 64);
        let seen = pages.iter().filter(|is_there| **is_there).count() as u64;
        assert_eq!(resident(whole), seen * PAGE, "both ways to count agree");
    }

    #[test]
    fn what_is_cut_off_is_not_there() {
        let cached = CachedFile::new(file(4), 4 * PAGE).expect("mapped");
        cached.file().set_len(PAGE).expect("cut");
        let range = PAGE..4 * PAGE;
        assert_eq!(cached.resident_bytes(range.clone()).expect("counted"), 0);
        cached.bring(range.clone()).expect("nothing to bring");
        assert!(cached.keep(range).is_err());
        let behind = cached.resident_pages(4 * PAGE..9 * PAGE);
        assert!(behind.expect("counted").is_empty());
        assert!(CachedFile::new(file(1), 0).is_err());
    }
}
