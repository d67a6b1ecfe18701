//! Lock files: a folder that one process uses at a time.
//!
//! The lock is the kernel's (flock(2)) and ends with the process, however it ends; the file under
//! it says who holds it, for the message, and stays.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest text that is read from a lock file, in bytes.
const TEXT_MAX: u64 = 32;

/// A lock file could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{} is in use by {}", path.display(), owner(*pid))]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("lock {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: Flock<File>,
}

impl FileLock {
    /// Takes the lock of `path`, making the file if there is none.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let fail = |error| LockError::Io {
            path: path.to_owned(),
            error,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(fail)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _ = file.take(TEXT_MAX).read_to_string(&mut text);
                return Err(LockError::Held {
                    path: path.to_owned(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err((_, errno)) => return Err(fail(errno.into())),
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_says_by_whom() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("lock");
        let lock = FileLock::take(&path).expect("free");
        let error = FileLock::take(&path).expect_err("held");
        let text = error.to_string();
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        drop(lock);
        drop(FileLock::take(&path).expect("free again"));
        assert!(FileLock::take(&folder.path().join("none/lock")).is_err());
    }
}
