//! The files of a model as the readers of headers see them: on a disk, or the heads that a packed
//! model carries.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The beginning of a file, which holds all that opening a model reads of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the whole file.
    pub len: u64,
    pub bytes: Vec<u8>,
    /// Tensors that are part of the configuration: first byte and contents.
    pub pieces: Vec<(u64, Vec<u8>)>,
}

/// Heads by the name of their file in the model's folder.
pub type Heads = BTreeMap<String, Head>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub enum ModelFiles {
    /// Paths are those of the host.
    #[default]
    Disk,
    /// Every path is a name behind `root`.
    Packed { root: PathBuf, heads: Arc<Heads> },
}

impl ModelFiles {
    fn head(&self, path: &Path) -> Option<io::Result<&Head>> {
        let Self::Packed { root, heads } = self else {
            return None;
        };
        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
        let head = name.and_then(|name| heads.get(name));
        Some(head.ok_or_else(|| ErrorKind::NotFound.into()))
    }

    /// Whether `path` is a folder; `None` if it is no file either.
    pub fn is_folder(&self, path: &Path) -> io::Result<Option<bool>> {
        match self {
            Self::Disk => {
                let meta = fs::metadata(path)?;
                Ok((meta.is_dir() || meta.is_file()).then_some(meta.is_dir()))
            }
            Self::Packed { root, .. } => Ok(Some(path == root)),
        }
    }

    pub fn exists(&self, path: &Path) -> bool {
        match self.head(path) {
            None => path.exists(),
            Some(head) => head.is_ok(),
        }
    }

    /// A reader of a file from its first byte, and the bytes of the file.
    pub fn open(&self, path: &Path) -> io::Result<(Box<dyn Read + '_>, u64)> {
        match self.head(path) {
            None => {
                let file = File::open(path)?;
                let len = file.metadata()?.len();
                Ok((Box::new(file), len))
            }
            Some(head) => {
                let head = head?;
                Ok((Box::new(Cursor::new(head.bytes.as_slice())), head.len))
            }
        }
    }

    /// Fills `buffer` from `offset` of a file.
    pub fn read_exact_at(&self, path: &Path, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Some(head) = self.head(path) else {
            return File::open(path)?.read_exact_at(buffer, offset);
        };
        let pieces = &head?.pieces;
        let found = pieces
            .iter()
            .find(|(start, bytes)| *start == offset && bytes.len() == buffer.len());
        let (_, bytes) = found.ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    /// Paths of the files in `folder` that end in `suffix`, in no order.
    pub fn list(&self, folder: &Path, suffix: &str) -> io::Result<Vec<PathBuf>> {
        match self {
            Self::Disk => {
                let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
                let mut all = paths.collect::<io::Result<Vec<_>>>()?;
                all.retain(|path| path.to_str().is_some_and(|path| path.ends_with(suffix)));
                Ok(all)
            }
            Self::Packed { root, heads } => {
                let names = heads.keys().filter(|name| name.ends_with(suffix));
                Ok(names.map(|name| root.join(name)).collect())
            }
        }
    }
}
