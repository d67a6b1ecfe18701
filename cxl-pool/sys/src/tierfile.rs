//! The file of a disk tier: whole pages of extents, written from and read into owned memory.

pub mod plain;
pub mod tokio;

use crate::lease::Scratch;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_fd};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Reads and writes whole pages. Calls block their thread, and any number of threads may call.
pub trait TierFile: Send + Sync {
    /// What stands behind, for the report.
    fn name(&self) -> &'static str;

    /// Writes all of `bytes` at `offset`.
    fn write(&self, offset: u64, bytes: Arc<Scratch>) -> io::Result<()>;

    /// Fills all of `target` from `offset`; it comes back in any case.
    fn read(&self, offset: u64, target: Scratch) -> (Scratch, io::Result<()>);
}

/// The fastest file without a name in `folder` that this host allows; also what it did not allow.
pub fn open(folder: &Path) -> io::Result<(Box<dyn TierFile>, Vec<String>)> {
    let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o600);
    let (file, mut notes) = match open_fd(folder, flags | OFlag::O_DIRECT, mode) {
        Ok(fd) => (File::from(fd), Vec::new()),
        Err(Errno::EINVAL) => {
            let note = "the disk tier goes through the page cache: no O_DIRECT there";
            (
                File::from(open_fd(folder, flags, mode)?),
                vec![note.to_owned()],
            )
        }
        Err(errno) => return Err(errno.into()),
    };
    match tokio::TokioFile::new(file) {
        Ok(file) => Ok((Box::new(file), notes)),
        Err((file, error)) => {
            notes.push(format!("no io_uring for the disk tier ({error}): pread"));
            Ok((Box::new(plain::PlainFile::new(file)), notes))
        }
    }
}

#[cfg(test)]
mod tests;
