//! The disk behind the memory of a node: one file in a folder of its own.
//!
//! One file, not one for each object: an extent of it is freed by dropping it, whoever still reads,
//! and nothing is opened or unlinked on the way of a request. The file starts empty at each start
//! of the node, as its memory does, and has no name, so nothing is left behind.

use super::store::Disk;
use larder_sys::space::Space;
use std::io;
use std::path::Path;

/// Opens the tier; also what this host did not allow.
pub(super) fn open(folder: &Path, bytes: u64) -> io::Result<(Disk, Vec<String>)> {
    std::fs::create_dir_all(folder)?;
    let (file, notes) = larder_sys::tierfile::open(folder)?;
    let space = Space::counted(bytes);
    Ok((Disk { file, space }, notes))
}
