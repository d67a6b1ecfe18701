//! Cgroups as programs see them: a number and a depth.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::error::StartError;
use crate::pins::path_error;

/// The inode of the folder, which is the cgroup's number, and how many folders it is below the
/// root of the tree. Only the tree of version 2 has numbers that programs can ask for.
pub(crate) fn find(folder: &Path) -> Result<(u64, u32), StartError> {
    let folder = fs::canonicalize(folder).map_err(|error| path_error("find", folder, &error))?;
    if statfs(&folder).map(|of| of.filesystem_type()) != Ok(CGROUP2_SUPER_MAGIC) {
        return Err(StartError::NoCgroup { path: folder });
    }
    let of =
        |folder: &Path| fs::metadata(folder).map_err(|error| path_error("read", folder, &error));
    let own = of(&folder)?;
    let mut level = 0;
    let mut above = folder.as_path();
    while let Some(parent) = above.parent() {
        if of(parent)?.dev() != own.dev() {
            break;
        }
        level += 1;
        above = parent;
    }
    Ok((own.ino(), level))
}
