//! Memory that other processes of this host may read where it stands.
//!
//! It is a file without a name. Once our own mapping is there the file is sealed: whoever gets its
//! descriptor can map it to read and do nothing else with it. They cannot write, and because it
//! never shrinks, no read of theirs ends in a SIGBUS. What they have mapped stays when this process
//! ends.
//!
//! Source: memfd_create(2), fcntl(2), file seals.

use super::{HUGE_PAGE, MapError, Mapping, PageKind};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
        let mapping = Self::of_new_file(len, PAGE, PageKind::Transparent).map_err(fail)?;
        // SAFETY: the range is ours, just mapped; the advice changes no contents. A kernel
        // without huge pages for shared memory refuses it, or takes no notice.
        let _ = unsafe { madvise(mapping.raw.0, mapping.raw.1, MmapAdvise::MADV_HUGEPAGE) };
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
        let file = mapping.file.as_ref().expect("a file is behind it");
        fcntl(file, FcntlArg::F_ADD_SEALS(seals()))?;
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
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let raw = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self {
            base: raw.cast(),
            len,
            raw: (raw, whole),
            kind,
            may_shrink: false,
            file: Some(file),
        })
    }

    /// What other processes map this memory by; `None` if it is this process's alone.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
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
}
