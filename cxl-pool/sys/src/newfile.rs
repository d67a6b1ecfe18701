//! Files that appear whole or not at all.
//!
//! The file has no name while it is written (`O_TMPFILE`, see open(2)), so even a killed process
//! leaves nothing behind. Where the file system cannot do that, a file beside the target takes its
//! place and is removed when the writer is dropped.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::linkat;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    target: PathBuf,
    /// Name beside the target, once the file has one.
    beside: PathBuf,
    has_name: bool,
}

impl NewFile {
    /// Starts a file that will stand at `target`.
    pub fn create(target: &Path) -> io::Result<Self> {
        let folder = folder_of(target);
        let Some(name) = target.file_name() else {
            return Err(io::Error::other("not a name for a file"));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let beside = folder.join(hidden);
        let flags = OFlag::O_WRONLY | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let (file, has_name) = match open(folder, flags, Mode::from_bits_truncate(0o644)) {
            Ok(fd) => (File::from(fd), false),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => {
                (File::create(&beside)?, true)
            }
            Err(errno) => return Err(errno.into()),
        };
        Ok(Self {
            file,
            target: target.to_owned(),
            beside,
            has_name,
        })
    }

    /// Gives the file its name once its bytes are on the disk, and waits until the name is too.
    pub fn finish_synced(self) -> io::Result<()> {
        self.file.sync_all()?;
        let folder = folder_of(&self.target).to_owned();
        self.finish()?;
        sync_folder(&folder)
    }

    /// Gives the file its name, in place of an older file.
    pub fn finish(mut self) -> io::Result<()> {
        if !self.has_name {
            let handle = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let flags = AtFlags::AT_SYMLINK_FOLLOW;
            linkat(AT_FDCWD, handle.as_str(), AT_FDCWD, &self.beside, flags)?;
            self.has_name = true;
        }
        fs::rename(&self.beside, &self.target)?;
        self.has_name = false;
        Ok(())
    }
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Waits until the names in a folder, and those removed from it, are so on the disk.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.has_name {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_replaces_the_old_one() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("out");
        let list = || fs::read_dir(folder.path()).expect("list").count();
        for text in ["one", "two"] {
            let before = list();
            let mut file = NewFile::create(&path).expect("create");
            file.write_all(text.as_bytes()).expect("write");
            assert_eq!(list(), before);
            file.finish().expect("finish");
            assert_eq!(
                (fs::read_to_string(&path).expect("read"), list()),
                (text.to_owned(), 1)
            );
        }
        let mut synced = NewFile::create(&path).expect("create");
        synced.write_all(b"three").expect("write");
        synced.finish_synced().expect("finish");
        assert_eq!(fs::read_to_string(&path).expect("read"), "three");
        drop(NewFile::create(&path).expect("create"));
        assert_eq!(list(), 1);
        assert!(NewFile::create(&folder.path().join("none/out")).is_err());
    }
}
