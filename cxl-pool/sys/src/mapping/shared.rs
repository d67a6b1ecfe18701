//! Memory that other processes of this host may read where it stands.
//!
//! It is a file without a name. Once our own mapping is there the file is sealed: whoever gets its
//! descriptor can map it to read and do nothing else with it. They cannot write, and because it
//! never shrinks, no read of theirs ends in a SIGBUS. What they have mapped stays when this process
//! ends.
//!
//! The kernel gives such a file huge pages by itself only where an administrator says so, and small
//! ones cost a lender a fifth of its speed. Where they are asked for range by range, it makes them:
//! [`Mapping::enlarge`].
//!
//! Source: memfd_create(2); fcntl(2), file seals; madvise(2), `MADV_COLLAPSE`.

use super::{HUGE_PAGE, MapError, Mapping, PageKind};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

/// Name of the file, as `/proc/PID/maps` shows it.
const NAME: &str = "larder-shared";
/// Bytes of a page, of which every file of this kind has a whole number.
const PAGE: usize = 4096;

/// Memory of another process could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum LentError {
    #[error("map lent memory: its file can still be written or cut; is this a larder node?")]
    Unsealed,
    #[error("map {bytes} bytes of lent memory: its file has {found}")]
    Size { bytes: u64, found: u64 },
    #[error("map {bytes} bytes of lent memory: {errno}")]
    Map { bytes: u64, errno: Errno },
}

/// Memory that another process has lent: it is read, and never written.
#[derive(Debug)]
pub struct LentMapping(Mapping);

impl LentMapping {
    pub(crate) const fn mapping(&self) -> &Mapping {
        &self.0
    }
}

/// The file behind a mapping, and for which of its whole huge pages the kernel has been asked.
#[derive(Debug)]
pub(super) struct Backing {
    file: OwnedFd,
    asked: Box<[AtomicBool]>,
}

/// What nobody may do to the file any more.
fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_FUTURE_WRITE
        | SealFlag::F_SEAL_SEAL
}

impl Mapping {
    /// Maps `bytes` (more than zero) that can be lent: hugetlb if the pool has the pages, else
    /// huge pages by advice, where the kernel gives those to shared memory.
    pub fn shared(bytes: u64) -> Result<Self, MapError> {
        let len = bytes as usize;
        assert!(len > 0, "a mapping has at least one byte");
        let fail = |errno| MapError { bytes, errno };
        if len < HUGE_PAGE {
            return Self::of_new_file(len, PAGE, PageKind::Small).map_err(fail);
        }
        if let Ok(mapping) = Self::of_new_file(len, HUGE_PAGE, PageKind::Hugetlb) {
            return Ok(mapping);
        }
        let mut mapping = Self::of_new_file(len, PAGE, PageKind::Transparent).map_err(fail)?;
        if let Some(backing) = &mut mapping.file {
            backing.asked = (0..len / HUGE_PAGE)
                .map(|_| AtomicBool::new(false))
                .collect();
        }
        // SAFETY: the range is ours, just mapped; the advice changes no contents. A kernel
        // without huge pages for shared memory refuses it, or takes no notice.
        let _ = unsafe { madvise(mapping.base.cast(), len, MmapAdvise::MADV_HUGEPAGE) };
        Ok(mapping)
    }

    /// Maps a new file of whole `pages` for `len` bytes, and seals it.
    fn of_new_file(len: usize, pages: usize, kind: PageKind) -> Result<Self, Errno> {
        let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        if kind == PageKind::Hugetlb {
            flags |= MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
        }
        let file = memfd_create(NAME, flags)?;
        let whole = len.next_multiple_of(pages);
        ftruncate(&file, whole as i64)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let mapping = Self::of_file(file, (whole, len), protection, kind)?;
        let backing = mapping.file.as_ref().expect("a file is behind it");
        fcntl(&backing.file, FcntlArg::F_ADD_SEALS(seals()))?;
        Ok(mapping)
    }

    /// Maps all `whole` bytes of a file, of which the first `len` are used.
    fn of_file(
        file: OwnedFd,
        (whole, len): (usize, usize),
        protection: ProtFlags,
        kind: PageKind,
    ) -> Result<Self, Errno> {
        let size = NonZeroUsize::new(whole).ok_or(Errno::EINVAL)?;
        if kind == PageKind::Hugetlb {
            // The kernel finds an address of a huge page by itself.
            // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
            let raw = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, &file, 0) }?;
            return Ok(Self::of_parts(file, (raw, whole), (raw.cast(), len), kind));
        }
        let raw_len = size.checked_add(HUGE_PAGE).ok_or(Errno::ENOMEM)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // Addresses first, so that the file begins at one of a huge page.
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let raw = unsafe { mmap_anonymous(None, raw_len, ProtFlags::PROT_NONE, flags) }?;
        let skip = raw.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: `skip` < the length of a huge page, by which the mapping is longer than the file.
        let base = unsafe { raw.cast::<u8>().add(skip) };
        let at = NonZeroUsize::new(base.as_ptr() as usize);
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: it takes the place of a part of the mapping just made, which nobody uses.
        let mapped = unsafe { mmap(at, size, protection, flags, &file, 0) };
        if let Err(errno) = mapped {
            // The kernel may have unmapped the place before it failed, and another thread may have
            // something there by now: it is not ours to unmap, only what is around it is.
            // SAFETY: `skip` + the file's length are inside the mapping, which is longer than both.
            let end = unsafe { base.add(whole) };
            for (start, len) in [(raw, skip), (end.cast(), HUGE_PAGE - skip)] {
                if len > 0 {
                    // SAFETY: it is ours, no place of the failed call, and nobody has its address.
                    let _ = unsafe { munmap(start, len) };
                }
            }
            return Err(errno);
        }
        Ok(Self::of_parts(
            file,
            (raw, raw_len.get()),
            (base, len),
            kind,
        ))
    }

    fn of_parts(
        file: OwnedFd,
        raw: (NonNull<libc::c_void>, usize),
        (base, len): (NonNull<u8>, usize),
        kind: PageKind,
    ) -> Self {
        Self {
            base,
            len,
            raw,
            kind,
            may_shrink: false,
            file: Some(Backing {
                file,
                asked: Box::default(),
            }),
        }
    }

    /// Asks, once for each, for the huge pages behind `start .. start + len`, which nobody may have
    /// used yet: those would be copied. A kernel that has none, or no such call, leaves small ones.
    pub(crate) fn enlarge(&self, start: u64, len: u64) {
        let Some(backing) = &self.file else { return };
        let end = (start + len).div_ceil(HUGE_PAGE as u64) as usize;
        let chunks = start as usize / HUGE_PAGE..end.min(backing.asked.len());
        let is_new = |&chunk: &usize| !backing.asked[chunk].swap(true, Ordering::Relaxed);
        let fresh: Vec<usize> = chunks.filter(is_new).collect();
        for run in fresh.chunk_by(|one, next| one + 1 == *next) {
            // What is empty has nothing to be made of: a page of each first.
            for &chunk in run {
                self.advise(chunk * HUGE_PAGE, PAGE, libc::MADV_POPULATE_WRITE);
            }
            self.advise(
                run[0] * HUGE_PAGE,
                run.len() * HUGE_PAGE,
                libc::MADV_COLLAPSE,
            );
        }
    }

    /// Gives advice that changes no contents.
    fn advise(&self, start: usize, len: usize, advice: libc::c_int) {
        assert!(start + len <= self.len, "inside the mapping");
        // SAFETY: `start` is inside the mapping, asserted above.
        let first = unsafe { self.base.add(start) };
        // SAFETY: 1. The range is inside this mapping, which is ours, asserted above. 2. Both kinds
        // of advice give pages and change no contents, whoever reads or writes meanwhile.
        let _ = unsafe { libc::madvise(first.as_ptr().cast(), len, advice) };
    }

    /// What other processes map this memory by; `None` if it is this process's alone.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|backing| backing.file.as_fd())
    }

    /// Maps the `bytes` of another process's [`Mapping::shared`], to read.
    pub fn lent(file: OwnedFd, bytes: u64) -> Result<LentMapping, LentError> {
        let fail = |errno| LentError::Map { bytes, errno };
        // A file of another kind has no seals, and says so in its way.
        let found = fcntl(&file, FcntlArg::F_GET_SEALS).map_err(|_| LentError::Unsealed)?;
        if !SealFlag::from_bits_truncate(found).contains(seals()) {
            return Err(LentError::Unsealed);
        }
        let found = fstat(&file).map_err(fail)?.st_size as u64;
        if bytes == 0 || found < bytes || found - bytes >= HUGE_PAGE as u64 {
            return Err(LentError::Size { bytes, found });
        }
        let sizes = (found as usize, bytes as usize);
        let protection = ProtFlags::PROT_READ;
        let mapping = Self::of_file(file, sizes, protection, PageKind::Transparent);
        mapping.map(LentMapping).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// The bytes of a mapping that nobody writes now.
    fn bytes(mapping: &Mapping) -> &[u8] {
        // SAFETY: the mapping is live, and the tests write it only while no slice is out.
        unsafe { std::slice::from_raw_parts(mapping.base().as_ptr(), mapping.len() as usize) }
    }

    fn fill(mapping: &Mapping, byte: u8) {
        // SAFETY: the mapping is live and ours to write, and no slice of it is out.
        unsafe { std::ptr::write_bytes(mapping.base().as_ptr(), byte, mapping.len() as usize) };
    }

    fn copy(mapping: &Mapping) -> OwnedFd {
        let descriptor = mapping.descriptor().expect("shared");
        descriptor.try_clone_to_owned().expect("a descriptor")
    }

    #[test]
    fn what_is_written_is_read_elsewhere_and_stays_when_the_writer_is_gone() {
        for len in [1, 4096, (2 << 20) - 1, 2 << 20, (6 << 20) + 4096] {
            let mapping = Mapping::shared(len).expect("memory");
            assert_eq!(mapping.len(), len);
            assert!(bytes(&mapping).iter().all(|&byte| byte == 0));
            let lent = Mapping::lent(copy(&mapping), len).expect("maps");
            assert_ne!(lent.mapping().base(), mapping.base());
            fill(&mapping, 0xA5);
            drop(mapping);
            assert!(bytes(lent.mapping()).iter().all(|&byte| byte == 0xA5));
        }
    }

    /// Where the pool has no huge pages, mapping some fails first.
    #[test]
    fn what_others_map_meanwhile_stays_theirs() {
        let stops = AtomicBool::new(false);
        let others = || {
            // Many at a time, so that they need new places.
            let mut kept = std::collections::VecDeque::new();
            while !stops.load(Ordering::Relaxed) {
                let own = Mapping::new(1 << 20).expect("memory");
                fill(&own, 1);
                kept.push_back(own);
                if kept.len() == 64 {
                    fill(&kept.pop_front().expect("there are many"), 2);
                }
            }
        };
        std::thread::scope(|scope| {
            let _all: [_; 3] = std::array::from_fn(|_| scope.spawn(others));
            for _ in 0..10_000 {
                drop(Mapping::shared(4 << 20).expect("memory"));
            }
            stops.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn who_has_the_descriptor_can_neither_write_nor_cut_nor_unseal() {
        let mapping = Mapping::shared(8192).expect("memory");
        fill(&mapping, 7);
        let file = copy(&mapping);
        let size = NonZeroUsize::new(8192).expect("more than zero");
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, should it come to be.
        let mapped = unsafe { mmap(None, size, both, MapFlags::MAP_SHARED, &file, 0) };
        assert_eq!(mapped, Err(Errno::EPERM));
        let more = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE);
        assert_eq!(fcntl(&file, more), Err(Errno::EPERM));
        let flags = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
            | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let punched = nix::fcntl::fallocate(&file, flags, 0, 4096);
        assert_eq!(punched, Err(Errno::EPERM));
        for len in [0, 4096, 16384] {
            assert_eq!(ftruncate(&file, len), Err(Errno::EPERM));
        }
        // As a stranger would open it again.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let again = File::options().write(true).open(path).expect("opens");
        assert!(again.write_at(&[1], 0).is_err() && again.set_len(0).is_err());
        assert!(bytes(&mapping).iter().all(|&byte| byte == 7));
    }

    #[test]
    fn files_of_another_kind_or_size_are_not_mapped() {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let loose = memfd_create(NAME, flags).expect("a file");
        ftruncate(&loose, 8192).expect("grows");
        let some = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        fcntl(&loose, FcntlArg::F_ADD_SEALS(some)).expect("sealed");
        for file in [loose, File::open("/dev/null").expect("it is there").into()] {
            let refused = Mapping::lent(file, 8192).expect_err("not sealed");
            assert!(matches!(refused, LentError::Unsealed), "{refused}");
        }
        let mapping = Mapping::shared(8192).expect("memory");
        for len in [0, 8193, 1 << 40] {
            let refused = Mapping::lent(copy(&mapping), len).expect_err("of another size");
            let found = 8192;
            assert!(matches!(refused, LentError::Size { found: f, .. } if f == found));
        }
        assert!(Mapping::new(4096).expect("memory").descriptor().is_none());
    }

    /// Kilobytes of a mapping that huge pages map, as `/proc/self/smaps` tells.
    fn huge_kib(mapping: &Mapping) -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("procfs");
        let start = format!("{:x}-", mapping.base().as_ptr() as usize);
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
        let line = lines.find_map(|line| line.strip_prefix("ShmemPmdMapped:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.expect("mapped").parse().expect("a number")
    }

    #[test]
    fn what_is_enlarged_keeps_its_bytes_and_is_lent_in_huge_pages() {
        const HUGE: u64 = HUGE_PAGE as u64;
        let mapping = Mapping::shared(4 * HUGE + 4096).expect("memory");
        fill(&mapping, 3);
        mapping.enlarge(HUGE - 1, HUGE + 1);
        // Asked for before, and what has no whole one.
        mapping.enlarge(0, mapping.len());
        assert!(bytes(&mapping).iter().all(|&byte| byte == 3));
        let lent = Mapping::lent(copy(&mapping), mapping.len()).expect("maps");
        assert!(bytes(lent.mapping()).iter().all(|&byte| byte == 3));
        if mapping.kind() != PageKind::Transparent || huge_kib(&mapping) == 0 {
            println!("skipped: no huge pages for shared memory here, or of a pool");
            return;
        }
        assert_eq!(huge_kib(lent.mapping()), huge_kib(&mapping));
    }

    #[test]
    fn huge_pages_come_where_nothing_was_written() {
        let mapping = Mapping::shared(8 << 20).expect("memory");
        mapping.enlarge(2 << 20, 4096);
        if mapping.kind() != PageKind::Transparent || huge_kib(&mapping) == 0 {
            println!("skipped: no huge pages for shared memory here, or of a pool");
            return;
        }
        assert_eq!(huge_kib(&mapping), 2048);
        assert!(bytes(&mapping).iter().all(|&byte| byte == 0));
    }
}
