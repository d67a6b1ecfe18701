//! A packed folder: a packed model on a disk. `root` is its root object, `blocks` its other
//! objects in order, each from a multiple of 4 KiB, so that every block is one direct read.

use super::PackedRoot;
use crate::manifest::error::ModelError;
use crate::manifest::{Container, Manifest, Origin, SourceFile};
use larder_pool::units::GRANULE;
use std::path::{Path, PathBuf};

/// The file with the root object; its presence makes a folder a packed one.
pub const ROOT: &str = "root.larder";
/// The file with all other objects.
pub const BLOCKS: &str = "blocks.larder";

/// Whether `path` is a packed folder.
pub fn is_packed_folder(path: &Path) -> bool {
    path.join(ROOT).is_file()
}

/// First byte of each object in the file of blocks, and the bytes of that file.
pub fn places(root: &PackedRoot) -> (Vec<u64>, u64) {
    let mut end = 0;
    let starts = root.objects.iter().map(|object| {
        let start: u64 = end;
        let len = object.len.checked_next_multiple_of(GRANULE);
        end = start.saturating_add(len.unwrap_or(u64::MAX));
        start
    });
    let starts = starts.collect();
    (starts, end)
}

/// Fails unless the file of blocks has the bytes that the root says; its path.
pub fn check_blocks(folder: &Path, len: u64) -> Result<PathBuf, ModelError> {
    let path = folder.join(BLOCKS);
    let found = std::fs::metadata(&path).map_err(|error| ModelError::io(&path, error))?;
    if found.len() == len {
        return Ok(path);
    }
    let found = found.len();
    Err(ModelError::Packed {
        path,
        detail: format!("it has {found} bytes, not {len}; pack the model again"),
    })
}

/// The root of a packed folder.
pub fn read_root(folder: &Path) -> Result<PackedRoot, ModelError> {
    let path = folder.join(ROOT);
    let bytes = std::fs::read(&path).map_err(|error| ModelError::io(&path, error))?;
    PackedRoot::decode(&bytes).map_err(|detail| ModelError::Packed { path, detail })
}

impl Manifest {
    /// Opens a packed folder.
    pub fn from_packed_folder(folder: &Path) -> Result<(Container, Self), ModelError> {
        let root = read_root(folder)?;
        let (starts, len) = places(&root);
        let (container, mut manifest) = Self::from_root(folder, root)?;
        let path = check_blocks(folder, len)?;
        for (block, start) in manifest.blocks.iter_mut().zip(&starts) {
            let run = &mut block.spec.runs[0];
            (run.file, run.offset) = (0, *start);
        }
        for rows in &mut manifest.embedding_rows {
            rows.offset += starts[rows.file as usize];
            rows.file = 0;
        }
        manifest.origin = Origin::Files(vec![SourceFile { path, len }]);
        Ok((container, manifest))
    }
}
