//! The spill tier (`nvme`): a file on a local disk that takes blocks for which memory has no room.
//!
//! A spill is a folder that one process uses at a time:
//!
//! ```text
//! lock     taken by the process that uses the folder; names it
//! data     the bytes of the tier; extents are at their place in the space, no header
//! index    what `data` holds, written at a clean stop only; see `index`
//! ```
//!
//! Life of a spill:
//! 1. Opened: the lock is taken, the index is read and removed, so that a killed process leaves
//!    none and the next start is empty. Damage and other versions are a note and an empty start.
//! 2. Used: stores and fetches go over the two paths of [`Spill::parts`].
//! 3. Closed: what should be kept is synced, then the index appears whole or not at all.
//!
//! Assumed of the disk: a file that was synced keeps its bytes, a rename is all or nothing. That
//! bytes come back unchanged is not assumed: the checksums of blocks are in the index.

mod kept;

mod index;

pub use kept::{Kept, KeptRecord};

use crate::path::PathParts;
use crate::source::Files;
use crate::units::{BytesPerSec, GRANULE};
use index::IndexError;
use larder_sys::driver::open_driver;
use larder_sys::file::{FileError, SourceFile};
use larder_sys::limits::disk_free_bytes;
use larder_sys::lock::{FileLock, LockError};
use larder_sys::newfile::{NewFile, sync_folder};
use larder_sys::space::Space;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "lock";
const DATA: &str = "data";
const INDEX: &str = "index";

/// The spill tier could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    #[error("make spill folder {}: {error}; give a folder that you may write", path.display())]
    Folder { path: PathBuf, error: io::Error },
    #[error(
        "spill folder {} is in use by {}; stop that or give another folder",
        path.display(), pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("spill: {0}; give a folder of your own")]
    Lock(LockError),
    #[error("spill of {bytes} bytes is too small: give at least {GRANULE}")]
    TooSmall { bytes: u64 },
    #[error("spill: {0}")]
    File(FileError),
    #[error("{what} spill index {}: {error}", path.display())]
    Index {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

/// Whether a spill folder could be used now: nobody else uses it, and what is there is ours.
pub fn check_free(folder: &Path) -> Result<(), SpillError> {
    if folder.join(LOCK).exists() {
        take_lock(folder)?;
    }
    Ok(())
}

fn take_lock(folder: &Path) -> Result<FileLock, SpillError> {
    FileLock::take(&folder.join(LOCK)).map_err(|error| match error {
        LockError::Held { pid, .. } => SpillError::Held {
            path: folder.to_owned(),
            pid,
        },
        error @ LockError::Io { .. } => SpillError::Lock(error),
    })
}

/// See the module.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    space: Arc<Space>,
    file: Arc<SourceFile>,
    kept: Vec<Kept>,
    notes: Vec<String>,
    /// Last, so that it is dropped last.
    _lock: FileLock,
}

impl Spill {
    /// Opens the spill in `folder`, which is made if it is missing, with room for `bytes` bytes.
    pub fn open(folder: &Path, bytes: u64) -> Result<Self, SpillError> {
        if bytes < GRANULE {
            return Err(SpillError::TooSmall { bytes });
        }
        let bytes = bytes / GRANULE * GRANULE;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| SpillError::Folder {
                path: folder.to_owned(),
                error,
            })?;
        let lock = take_lock(folder)?;
        let space = Space::counted(bytes);
        let mut notes = Vec::new();
        let kept = take_index(folder, &space, &mut notes)?;
        let data = folder.join(DATA);
        if kept.is_empty() {
            // Its blocks are nobody's: the disk may have their room back.
            let _ = fs::remove_file(&data);
        }
        let file = SourceFile::open_written(&data, bytes).map_err(SpillError::File)?;
        if !file.is_direct() {
            notes.push(format!(
                "{} has no O_DIRECT: spilled blocks go through the page cache",
                folder.display()
            ));
        }
        let left = disk_free_bytes(folder).unwrap_or(u64::MAX);
        let needed = bytes - space.used_bytes();
        if left < needed {
            notes.push(format!(
                "the disk of {} has {left} bytes left for {needed} of the spill: it takes no more \
                 blocks when that is full",
                folder.display()
            ));
        }
        Ok(Self {
            folder: folder.to_owned(),
            space,
            file: Arc::new(file),
            kept,
            notes,
            _lock: lock,
        })
    }

    /// The bytes of the tier; extents for stores are taken from it.
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// What the reader of a report should know, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the last run kept, once.
    pub fn take_index(&mut self) -> Vec<Kept> {
        std::mem::take(&mut self.kept)
    }

    /// The paths from the tier `name` to `memory` and back, each with a limit of its own.
    pub fn parts(
        &self,
        name: &str,
        memory: &Arc<Space>,
        limit: Option<BytesPerSec>,
    ) -> (PathParts, PathParts) {
        (
            self.path(format!("{name}>dram"), memory, limit),
            self.path(format!("dram>{name}"), memory, limit),
        )
    }

    /// A path called `name` between the tier and `memory`, whichever way its moves go. A path
    /// that goes on to a device has staging for its memory, and gets a bounce from its caller.
    pub fn path(&self, name: String, memory: &Arc<Space>, limit: Option<BytesPerSec>) -> PathParts {
        PathParts {
            name,
            driver: open_driver(vec![Arc::clone(&self.file)], memory),
            source: Box::new(Files(vec![Arc::clone(&self.file)])),
            limit,
            bounce: None,
            disk: None,
        }
    }

    /// Ends a run cleanly: the next one finds `kept`, or as much of it from the first as an index
    /// has room for. The mover has been dropped by now, so nothing
    /// is being written any more.
    pub fn close(self, kept: &[Kept]) -> Result<(), SpillError> {
        if kept.is_empty() {
            return Ok(());
        }
        self.file.sync().map_err(SpillError::File)?;
        let path = self.folder.join(INDEX);
        let bytes = index::encode(&self.space, kept, index::BYTES_MAX);
        let written = NewFile::create(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.finish_synced()
        });
        written.map_err(|error| SpillError::Index {
            what: "write",
            path,
            error,
        })
    }
}

/// Reads the index and removes it; an index that cannot be used is a note.
fn take_index(
    folder: &Path,
    space: &Arc<Space>,
    notes: &mut Vec<String>,
) -> Result<Vec<Kept>, SpillError> {
    let path = folder.join(INDEX);
    let read = match read_index(&path) {
        Err(IndexError::Read { error }) if error.kind() == ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        read => read,
    };
    fs::remove_file(&path)
        .and_then(|()| sync_folder(folder))
        .map_err(|error| SpillError::Index {
            what: "remove",
            path: path.clone(),
            error,
        })?;
    let data_bytes = fs::metadata(folder.join(DATA)).map_or(0, |data| data.len());
    match read.and_then(|bytes| index::decode(&bytes, space, data_bytes)) {
        Ok(decoded) => {
            if decoded.dropped > 0 {
                notes.push(format!(
                    "{} of the spill's blocks lie beyond its new size and are gone",
                    decoded.dropped
                ));
            }
            Ok(decoded.kept)
        }
        Err(error) => {
            let path = path.display();
            notes.push(format!(
                "{path} cannot be used ({error}): the spill starts empty"
            ));
            Ok(Vec::new())
        }
    }
}

fn read_index(path: &Path) -> Result<Vec<u8>, IndexError> {
    let read = |error| IndexError::Read { error };
    let found = fs::symlink_metadata(path).map_err(read)?;
    if !found.is_file() {
        return Err(IndexError::NotAFile);
    }
    if found.len() > index::BYTES_MAX {
        return Err(IndexError::TooLarge { bytes: found.len() });
    }
    fs::read(path).map_err(read)
}

#[cfg(test)]
mod tests;
