//! Why a file cannot be followed.

use std::io;
use std::path::PathBuf;

/// A file, or a process, could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("follow {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("follow {}: it is no regular file; name a model or pool file", path.display())]
    NotRegular { path: PathBuf },
    #[error("follow {}: it is empty", path.display())]
    Empty { path: PathBuf },
    #[error("follow process {pid}: there is no such process")]
    NoProcess { pid: u32 },
    #[error("follow process {pid}: not allowed; run as root, or as the user of that process")]
    NotAllowed { pid: u32 },
    #[error("follow process {pid}: it maps no file of 1 MiB or more; name the file")]
    NoMapping { pid: u32 },
    #[error(
        "look at the page cache of {}, which the kernel tells to its owner, those who may write it \
         and root",
        path.display()
    )]
    Cache { path: PathBuf, source: io::Error },
}
