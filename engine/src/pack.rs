//! Packing: a model's blocks written back to back into a folder, in the order of a step.

use crate::manifest::packed::folder::{BLOCKS, ROOT};
use crate::manifest::{Container, ModelError};
use crate::publish::{Image, each_image};
use larder_pool::sys::newfile::NewFile;
use larder_pool::units::GRANULE;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A model could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{} holds something already; give an empty or new folder", path.display())]
    NotEmpty { path: PathBuf },
    #[error("write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    pub objects: usize,
    pub bytes: u64,
}

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// Packs a model into `folder`, which must be empty or new; `step` hears of the bytes of each
/// object. The folder is a packed one only when all of it is on the disk.
pub fn pack(
    container: &Container,
    folder: &Path,
    mut step: impl FnMut(u64),
) -> Result<Packed, PackError> {
    let fail = |path: &Path| {
        let path = path.to_path_buf();
        move |error| PackError::Write { path, error }
    };
    std::fs::create_dir_all(folder).map_err(fail(folder))?;
    let mut held = std::fs::read_dir(folder).map_err(fail(folder))?;
    if held.next().is_some() {
        let path = folder.to_path_buf();
        return Err(PackError::NotEmpty { path });
    }
    let blocks = folder.join(BLOCKS);
    let file = NewFile::create(&blocks).map_err(fail(&blocks))?;
    let mut file = BufWriter::with_capacity(BUFFER, file);
    let mut bytes = 0;
    let root = each_image(container, |Image { bytes: image, .. }| {
        let len = image.len() as u64;
        let padding = vec![0; (len.next_multiple_of(GRANULE) - len) as usize];
        let written = file
            .write_all(image)
            .and_then(|()| file.write_all(&padding));
        written.map_err(fail(&blocks))?;
        bytes += len.next_multiple_of(GRANULE);
        step(len);
        Ok::<_, PackError>(())
    })?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    let synced = file.and_then(NewFile::finish_synced);
    synced.map_err(fail(&blocks))?;
    let path = folder.join(ROOT);
    let written = NewFile::create(&path).and_then(|mut file| {
        file.write_all(&root.encode())?;
        file.finish_synced()
    });
    written.map_err(fail(&path))?;
    Ok(Packed {
        objects: root.objects.len(),
        bytes,
    })
}
