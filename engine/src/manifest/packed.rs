//! A packed model: the heads of its files, and its blocks as objects named by their content.
//!
//! The root object says everything that opening a model needs; each block is an object of its own,
//! its parts back to back at multiples of 64 bytes. Rows of an embedding that is not the head are
//! objects too, many rows each.
//!
//! ```text
//! root    magic (8) | bytes of the index (u64) | index, JSON | heads and pieces, back to back
//! ```

pub mod folder;

use super::error::ModelError;
use super::files::{Head, Heads, ModelFiles};
use super::{Block, Container, Manifest, Origin, Role, RowSegment};
use larder_pool::block::{BlockSpec, PartSpec, Run};
use larder_pool::checksum::run_checks;
use larder_pool::wire::ObjectHash;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::path::Path;
use std::sync::Arc;

/// Changes with every change of the form of a root or of how blocks are cut and packed.
const MAGIC: &[u8; 8] = b"LARDPK02";
/// Parts of a packed block start at multiples of this.
const PART_ALIGN: u64 = 64;
/// Bytes of an object of embedding rows, about.
const ROWS_BYTES: u64 = 4 << 20;

/// An object of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedObject {
    pub hash: ObjectHash,
    pub len: u64,
    /// Checksums of a block; rows of an embedding, which are read a few at a time, have none.
    pub sums: Arc<[u32]>,
}

/// What a root object holds.
#[derive(Clone, Debug)]
pub struct PackedRoot {
    /// Name of the first file, or nothing for a folder.
    pub entry: String,
    pub heads: Heads,
    /// Objects of the blocks, in their order, then those of the embedding rows.
    pub objects: Vec<PackedObject>,
}

#[derive(Deserialize, Serialize)]
struct IndexFile {
    name: String,
    len: u64,
    head: u64,
    /// First byte in the file, and bytes.
    pieces: Vec<(u64, u64)>,
}

#[derive(Deserialize, Serialize)]
struct Index {
    entry: String,
    files: Vec<IndexFile>,
    /// Hash, length and checksums.
    objects: Vec<(String, u64, Vec<u32>)>,
}

impl PackedRoot {
    pub fn encode(&self) -> Vec<u8> {
        let files = self.heads.iter().map(|(name, head)| IndexFile {
            name: name.clone(),
            len: head.len,
            head: head.bytes.len() as u64,
            pieces: head
                .pieces
                .iter()
                .map(|(offset, bytes)| (*offset, bytes.len() as u64))
                .collect(),
        });
        let objects = self.objects.iter();
        let index = Index {
            entry: self.entry.clone(),
            files: files.collect(),
            objects: objects
                .map(|object| (object.hash.to_string(), object.len, object.sums.to_vec()))
                .collect(),
        };
        let json = serde_json::to_vec(&index).expect("an index has no maps with odd keys");
        let mut bytes = MAGIC.to_vec();
        bytes.extend((json.len() as u64).to_le_bytes());
        bytes.extend(json);
        for head in self.heads.values() {
            bytes.extend(&head.bytes);
            for (_, piece) in &head.pieces {
                bytes.extend(piece);
            }
        }
        bytes
    }

    /// Reads a root; the message says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let mut take = |len: u64| {
            let (taken, left) = usize::try_from(len)
                .ok()
                .and_then(|len| rest.split_at_checked(len))
                .ok_or_else(|| format!("its root ends early, at byte {}", bytes.len()))?;
            rest = left;
            Ok::<_, String>(taken)
        };
        if take(MAGIC.len() as u64)? != MAGIC {
            return Err("its root is of another version of larder; load it again".to_owned());
        }
        let len = take(8)?.try_into().expect("eight bytes were taken");
        let json = take(u64::from_le_bytes(len))?;
        let index: Index =
            serde_json::from_slice(json).map_err(|error| format!("its index: {error}"))?;
        let mut heads = Heads::new();
        for file in index.files {
            let mut head = Head {
                len: file.len,
                bytes: take(file.head)?.to_vec(),
                pieces: Vec::new(),
            };
            for (offset, len) in file.pieces {
                head.pieces.push((offset, take(len)?.to_vec()));
            }
            heads.insert(file.name, head);
        }
        let objects = index.objects.into_iter().map(|(hash, len, sums)| {
            let hash = ObjectHash::from_hex(&hash).ok_or(format!("'{hash}' is no hash"))?;
            let sums = sums.into();
            Ok(PackedObject { hash, len, sums })
        });
        Ok(Self {
            entry: index.entry,
            heads,
            objects: objects.collect::<Result<_, String>>()?,
        })
    }
}

impl Manifest {
    /// Opens the model that a root describes, with where its headers are read from. `path` is its
    /// name in messages.
    pub fn from_packed(path: &Path, root: &[u8]) -> Result<(Container, Self), ModelError> {
        let root = PackedRoot::decode(root).map_err(|detail| ModelError::Packed {
            path: path.to_path_buf(),
            detail,
        })?;
        Self::from_root(path, root)
    }

    fn from_root(path: &Path, root: PackedRoot) -> Result<(Container, Self), ModelError> {
        let refuse = |detail: String| ModelError::Packed {
            path: path.to_path_buf(),
            detail,
        };
        let entry = if root.entry.is_empty() {
            path.to_path_buf()
        } else {
            path.join(&root.entry)
        };
        let source = ModelFiles::Packed {
            root: path.to_path_buf(),
            heads: Arc::new(root.heads),
        };
        let mut container = Container::open_in(&entry, &source)?;
        let mut manifest = Self::from_container(&container)?;
        let layout = PackLayout::of(&manifest);
        let lens = layout.lens();
        let found: Vec<u64> = root.objects.iter().map(|object| object.len).collect();
        if lens != found {
            let (found, expected) = (found.len(), lens.len());
            return Err(refuse(format!(
                "its {found} objects are not the {expected} that its headers ask for"
            )));
        }
        let named = root.objects.iter().map(|object| Arc::clone(&object.sums));
        manifest.sums = named.take(manifest.blocks.len()).collect();
        for (block, spec) in manifest.blocks.iter_mut().zip(layout.specs) {
            block.spec = spec;
        }
        let is_summed =
            |(block, sums): (&Block, &Arc<[u32]>)| run_checks(&block.spec).1 == sums.len();
        if !manifest.blocks.iter().zip(&manifest.sums).all(is_summed) {
            return Err(refuse(
                "its checksums are not those of its blocks".to_owned(),
            ));
        }
        manifest.embedding_rows = layout.rows;
        manifest.origin = Origin::Objects(root.objects.iter().map(|object| object.hash).collect());
        manifest.is_packed = true;
        container.path = path.to_path_buf();
        manifest.path = path.to_path_buf();
        Ok((container, manifest))
    }
}

/// How the blocks of a model are packed: file i is object i.
#[derive(Clone, Debug)]
pub struct PackLayout {
    /// Of each block.
    pub specs: Vec<BlockSpec>,
    /// Where the rows of the embedding stand.
    pub rows: Vec<RowSegment>,
    /// Rows that are objects of their own: first row and count.
    pub extra: Vec<(usize, usize)>,
    row_bytes: u64,
}

impl PackLayout {
    pub fn of(manifest: &Manifest) -> Self {
        let specs: Vec<BlockSpec> = (0..).zip(&manifest.blocks).map(pack).collect();
        let embedding = manifest.embedding();
        let row_bytes = embedding.row_bytes();
        let (mut rows, mut extra) = (Vec::new(), Vec::new());
        if manifest.config.tied {
            // The head holds every row, whole, in order.
            let head = manifest.program.head.clone();
            for block in head.map(|block| block as usize) {
                for (part, place) in manifest.blocks[block].parts.iter().zip(&specs[block].parts) {
                    if manifest.tensors[part.tensor].role == Role::TokenEmbd {
                        rows.push(RowSegment {
                            row0: part.row0,
                            file: block as u32,
                            offset: place.offset,
                        });
                    }
                }
            }
        } else {
            let each = (ROWS_BYTES / row_bytes).max(1) as usize;
            for row0 in (0..embedding.rows).step_by(each) {
                rows.push(RowSegment {
                    row0,
                    file: (specs.len() + extra.len()) as u32,
                    offset: 0,
                });
                extra.push((row0, each.min(embedding.rows - row0)));
            }
        }
        Self {
            specs,
            rows,
            extra,
            row_bytes,
        }
    }

    /// Bytes of every object.
    pub fn lens(&self) -> Vec<u64> {
        let blocks = self.specs.iter().map(|spec| spec.runs[0].len);
        let rows = self
            .extra
            .iter()
            .map(|&(_, rows)| rows as u64 * self.row_bytes);
        blocks.chain(rows).collect()
    }
}

/// A block as object `file`.
fn pack((file, block): (u32, &Block)) -> BlockSpec {
    let mut parts: SmallVec<[PartSpec; 8]> = SmallVec::new();
    let mut end = 0u64;
    for part in &block.spec.parts {
        let offset = end.next_multiple_of(PART_ALIGN);
        parts.push(PartSpec {
            run: 0,
            offset,
            len: part.len,
        });
        end = offset + part.len;
    }
    let run = Run {
        file,
        offset: 0,
        len: end,
    };
    BlockSpec {
        runs: SmallVec::from_slice(&[run]),
        parts,
    }
}

/// Head of every file of a model: what opening it reads.
pub fn heads(container: &Container) -> Result<PackedHeads, ModelError> {
    let folder = match &container.form {
        super::Form::Gguf(_) => container.path.parent().unwrap_or(Path::new("")),
        super::Form::Folder { .. } => &container.path,
    };
    let name_of = |path: &Path| -> Result<String, ModelError> {
        let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
        name.map(str::to_owned).ok_or_else(|| ModelError::Packed {
            path: path.to_path_buf(),
            detail: "its name is not UTF-8; rename it".to_owned(),
        })
    };
    let mut found = Heads::new();
    for (index, file) in container.files.iter().enumerate() {
        let of_file = || {
            let tensors = container.tensors.iter();
            tensors.filter(|tensor| tensor.file as usize == index)
        };
        let end = of_file().map(|tensor| tensor.offset).min();
        let bytes = read_range(container, &file.path, 0, end.unwrap_or(file.len))?;
        let mut pieces = Vec::new();
        for tensor in of_file().filter(|tensor| super::arch::is_derived(&tensor.name)) {
            let piece = read_range(container, &file.path, tensor.offset, tensor.len)?;
            pieces.push((tensor.offset, piece));
        }
        let head = Head {
            len: file.len,
            bytes,
            pieces,
        };
        found.insert(name_of(&file.path)?, head);
    }
    let mut entry = String::new();
    if matches!(container.form, super::Form::Gguf(_)) {
        entry = name_of(&container.path)?;
    } else {
        for name in FOLDER_FILES {
            let path = container.path.join(name);
            if container.source.exists(&path) {
                let (_, len) = container
                    .source
                    .open(&path)
                    .map_err(|e| ModelError::io(&path, e))?;
                let bytes = read_range(container, &path, 0, len)?;
                let pieces = Vec::new();
                found.insert((*name).to_owned(), Head { len, bytes, pieces });
            }
        }
    }
    Ok(PackedHeads {
        entry,
        heads: found,
    })
}

/// Files of a folder that are read whole.
const FOLDER_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
];

/// See [`heads`].
#[derive(Debug)]
pub struct PackedHeads {
    pub entry: String,
    pub heads: Heads,
}

/// Bytes of a file of the model.
pub fn read_range(
    container: &Container,
    path: &Path,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, ModelError> {
    let mut bytes = vec![0; len as usize];
    let read = container.source.read_exact_at(path, &mut bytes, offset);
    read.map_err(|e| ModelError::io(path, e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_come_back_and_damage_is_named() {
        let head = Head {
            len: 1 << 40,
            bytes: vec![1, 2, 3],
            pieces: vec![(77, vec![9; 5])],
        };
        let root = PackedRoot {
            entry: "a.gguf".to_owned(),
            heads: Heads::from([("a.gguf".to_owned(), head)]),
            objects: vec![PackedObject {
                hash: ObjectHash::of(b"x"),
                len: 12,
                sums: Arc::from([1, 2]),
            }],
        };
        let bytes = root.encode();
        let back = PackedRoot::decode(&bytes).expect("is whole");
        assert_eq!(
            (back.entry, back.heads, back.objects),
            (root.entry, root.heads, root.objects)
        );
        for len in 0..bytes.len() {
            assert!(PackedRoot::decode(&bytes[..len]).is_err());
        }
        let mut wrong = bytes;
        wrong[7] ^= 1;
        let error = PackedRoot::decode(&wrong).expect_err("another version");
        assert!(error.contains("version"), "{error}");
    }
}
