//! Files of tiers: those of the origin are opened once and watched for change; that of a spill is
//! ours to write. Both go past the page cache where the file system allows it.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use nix::unistd::{fdatasync, ftruncate};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// A file of a tier could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("open {}: {errno}", path.display())]
    Open { path: PathBuf, errno: Errno },
    #[error("open {}: not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("give {} the size of {bytes} bytes: {errno}", path.display())]
    Resize {
        path: PathBuf,
        bytes: u64,
        errno: Errno,
    },
    #[error("sync {}: {errno}", path.display())]
    Sync { path: PathBuf, errno: Errno },
    #[error("{} changed while it was in use ({what}); start again", path.display())]
    Changed { path: PathBuf, what: &'static str },
}

/// What must stay the same while a file is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    len: i64,
    modified: (i64, i64),
}

impl Identity {
    fn of(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            len: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

/// Who may write a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// Nobody: it must stay as it was opened.
    Nobody,
    /// This process.
    Us,
}

/// A file with its identity.
#[derive(Debug)]
pub struct SourceFile {
    fd: OwnedFd,
    path: PathBuf,
    identity: Identity,
    direct: bool,
    writer: Writer,
}

impl SourceFile {
    /// Opens for reading, with `O_DIRECT` where the file system has it, else through the page
    /// cache.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::open_with(path, OFlag::O_RDONLY, Writer::Nobody)
    }

    /// Opens or makes a file of `bytes` bytes that this process writes; it takes room on the disk
    /// as it is written.
    pub fn open_written(path: &Path, bytes: u64) -> Result<Self, FileError> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW;
        let mut file = Self::open_with(path, flags, Writer::Us)?;
        ftruncate(&file.fd, bytes as libc::off_t).map_err(|errno| FileError::Resize {
            path: path.to_owned(),
            bytes,
            errno,
        })?;
        file.identity.len = bytes as i64;
        Ok(file)
    }

    fn open_with(path: &Path, flags: OFlag, writer: Writer) -> Result<Self, FileError> {
        let fail = |errno| FileError::Open {
            path: path.to_owned(),
            errno,
        };
        let flags = flags | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let (fd, direct) = match open(path, flags | OFlag::O_DIRECT, mode) {
            Ok(fd) => (fd, true),
            Err(Errno::EINVAL) => (open(path, flags, mode).map_err(fail)?, false),
            Err(errno) => return Err(fail(errno)),
        };
        let stat = fstat(&fd).map_err(fail)?;
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(FileError::NotAFile {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            fd,
            path: path.to_owned(),
            identity: Identity::of(&stat),
            direct,
            writer,
        })
    }

    /// Makes sure that what was written is on the disk.
    pub fn sync(&self) -> Result<(), FileError> {
        fdatasync(&self.fd).map_err(|errno| FileError::Sync {
            path: self.path.clone(),
            errno,
        })
    }

    /// Fails if the file under the path is not the one that was opened, or was changed by others.
    pub fn check(&self) -> Result<(), FileError> {
        let changed = |what| FileError::Changed {
            path: self.path.clone(),
            what,
        };
        let held = fstat(&self.fd).map_err(|_| changed("its handle went stale"))?;
        let held = Identity::of(&held);
        if held.len != self.identity.len {
            return Err(changed("its size"));
        }
        if self.writer == Writer::Nobody && held.modified != self.identity.modified {
            return Err(changed("its modification time"));
        }
        let named = stat(&self.path).map_err(|_| changed("it was removed"))?;
        let named = Identity::of(&named);
        if (named.device, named.inode) != (held.device, held.inode) {
            return Err(changed("it was replaced"));
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub const fn len(&self) -> u64 {
        self.identity.len as u64
    }

    pub const fn is_empty(&self) -> bool {
        self.identity.len == 0
    }

    /// Reads go past the page cache.
    pub const fn is_direct(&self) -> bool {
        self.direct
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn written(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("model");
        std::fs::File::create(&path)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .expect("write");
        path
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = written(folder.path(), "one");
        let file = SourceFile::open(&path).expect("opens");
        assert_eq!(file.len(), 3);
        file.check().expect("unchanged");
        written(folder.path(), "longer");
        assert!(
            file.check()
                .is_err_and(|e| e.to_string().contains("its size"))
        );
    }

    #[test]
    fn a_replaced_or_removed_file_is_noticed() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = written(folder.path(), "one");
        let file = SourceFile::open(&path).expect("opens");
        let other = folder.path().join("other");
        std::fs::copy(&path, &other).expect("copy");
        std::fs::rename(&other, &path).expect("rename");
        assert!(
            file.check()
                .is_err_and(|e| e.to_string().contains("replaced"))
        );
        std::fs::remove_file(&path).expect("remove");
        assert!(
            file.check()
                .is_err_and(|e| e.to_string().contains("removed"))
        );
    }

    #[test]
    fn a_written_file_has_its_size_at_once_and_may_change_by_us_only() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("data");
        let file = SourceFile::open_written(&path, 1 << 20).expect("made");
        assert_eq!((file.len(), file.is_empty()), (1 << 20, false));
        nix::sys::uio::pwrite(file.fd(), &[], 0).expect("may be written");
        file.sync().expect("sync");
        file.check().expect("ours");
        std::fs::remove_file(&path).expect("remove");
        assert!(
            file.check()
                .is_err_and(|e| e.to_string().contains("removed"))
        );
    }

    #[test]
    fn a_folder_or_a_missing_path_is_refused() {
        let folder = tempfile::tempdir().expect("temp folder");
        assert!(SourceFile::open(folder.path()).is_err());
        let missing = SourceFile::open(&folder.path().join("none")).expect_err("missing");
        assert!(missing.to_string().contains("none"));
    }
}
