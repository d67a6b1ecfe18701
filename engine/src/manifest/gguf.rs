//! Header of a GGUF file, versions 2 and 3.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  keys u64 | keys × (key, type, value)
//! | tensors × (name, dimensions u32, dimensions × u64, type u32, offset u64)
//! | padding to the alignment | tensor data
//! ```
//!
//! Integers are little-endian; the first dimension is the length of a row; offsets count from the
//! start of the tensor data. Source: ggml, `docs/gguf.md`.

mod cursor;
mod value;
mod metadata;
mod types;

pub use metadata::Metadata;
pub use types::{GgmlType, ggml_type};
pub use value::{Numbers, Strings, Value};

use super::error::{HeaderError, Quoted, TensorProblem};
use super::stored::{self, Shape, StoredTensor};
use cursor::Cursor;
use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Read;

/// First bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

const TENSORS_MAX: u64 = 1 << 18;
const TENSOR_NAME_BYTES_MAX: u64 = 1024;
const RANK_MAX: u64 = 4;
const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 20;

/// Least bytes of a key with its value, and of a tensor's entry.
const KEY_BYTES_MIN: u64 = 8 + 4 + 1;
const TENSOR_BYTES_MIN: u64 = 8 + 4 + 4 + 8;

/// What the header of one file says.
#[derive(Debug)]
pub struct Header {
    pub version: u32,
    pub metadata: Metadata,
    /// In the order of the file, offsets from its start. `file` is zero.
    pub tensors: Vec<StoredTensor>,
}

impl Header {
    /// Reads and checks a header; the data of the tensors is never read.
    ///
    /// `source` stands at the start of a file of `file_len` bytes.
    pub fn read(source: impl Read, file_len: u64) -> Result<Self, HeaderError> {
        let mut cursor = Cursor::new(source, file_len);
        let version = read_version(&mut cursor)?;
        let tensor_count = read_count(&mut cursor, "tensor count", TENSOR_BYTES_MIN, TENSORS_MAX)?;
        let key_count = read_count(&mut cursor, "key count", KEY_BYTES_MIN, metadata::KEYS_MAX)?;
        let metadata = Metadata::read(&mut cursor, key_count)?;
        let alignment = alignment(&metadata)?;
        let mut entries = read_entries(&mut cursor, tensor_count)?;
        let data_start = cursor.at().next_multiple_of(alignment);
        locate(&mut entries, data_start, alignment, file_len)?;
        let tensors: Vec<_> = entries.into_iter().map(|entry| entry.tensor).collect();
        stored::check_extents(&tensors, file_len)?;
        Ok(Self {
            version,
            metadata,
            tensors,
        })
    }
}

fn read_version(cursor: &mut Cursor<impl Read>) -> Result<u32, HeaderError> {
    let found = cursor.array("magic")?;
    if found != MAGIC {
        return Err(HeaderError::Magic { found });
    }
    let version = cursor.u32("version")?;
    match version {
        2 | 3 => Ok(version),
        found if matches!(found.swap_bytes(), 1..=3) => Err(HeaderError::BigEndian),
        found => Err(HeaderError::Version { found }),
    }
}

/// Reads a count and checks that the file can hold so many entries of at least `bytes_min`.
fn read_count(
    cursor: &mut Cursor<impl Read>,
    what: &'static str,
    bytes_min: u64,
    max: u64,
) -> Result<u64, HeaderError> {
    let offset = cursor.at();
    let found = cursor.u64(what)?;
    let max = max.min(cursor.file_len() / bytes_min);
    if found > max {
        return Err(HeaderError::TooMany {
            what,
            offset,
            found,
            max,
        });
    }
    Ok(found)
}

fn alignment(metadata: &Metadata) -> Result<u64, HeaderError> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else {
        return Ok(ALIGNMENT_DEFAULT);
    };
    let found = value
        .as_u64()
        .filter(|&n| n.is_power_of_two() && n <= ALIGNMENT_MAX);
    found.ok_or_else(|| HeaderError::Alignment {
        found: value.describe(),
        max: ALIGNMENT_MAX,
    })
}

/// A tensor whose offset still counts from the start of the data.
struct Entry {
    tensor: StoredTensor,
    /// `None` if the table does not know the type: it ends where the next one begins.
    len: Option<u64>,
}

fn read_entries(cursor: &mut Cursor<impl Read>, count: u64) -> Result<Vec<Entry>, HeaderError> {
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..count {
        let start = cursor.at();
        let entry = read_entry(cursor)?;
        if !names.insert(entry.tensor.name.clone()) {
            let name = Quoted::new(&entry.tensor.name);
            return Err(HeaderError::Duplicate {
                what: "tensor",
                name,
                offset: start,
            });
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn read_entry(cursor: &mut Cursor<impl Read>) -> Result<Entry, HeaderError> {
    let name = cursor.string(TENSOR_NAME_BYTES_MAX, "tensor name")?;
    let refuse = |problem| HeaderError::Tensor {
        name: Quoted::new(&name),
        problem,
    };
    let rank = u64::from(cursor.u32("dimension count")?);
    if rank > RANK_MAX {
        return Err(refuse(TensorProblem::Rank {
            found: rank,
            max: RANK_MAX,
        }));
    }
    let mut shape = Shape::new();
    for _ in 0..rank {
        shape.insert(0, cursor.u64("dimension")?);
    }
    let id = cursor.u32("tensor type")?;
    let offset = cursor.u64("tensor offset")?;
    let elements = stored::elements(&shape).map_err(refuse)?;
    let cols = shape.last().copied().unwrap_or(1);
    let (type_name, len) = match ggml_type(id) {
        Some(ty) => (
            Cow::Borrowed(ty.name),
            Some(bytes(ty, elements, cols).map_err(refuse)?),
        ),
        None => (Cow::Owned(format!("ggml type {id}")), None),
    };
    let tensor = StoredTensor {
        name,
        type_name,
        shape,
        file: 0,
        offset,
        len: len.unwrap_or(0),
    };
    Ok(Entry { tensor, len })
}

/// Bytes of `elements` elements in rows of `cols`.
fn bytes(ty: &'static GgmlType, elements: u64, cols: u64) -> Result<u64, TensorProblem> {
    let block = ty.block_elems;
    if !cols.is_multiple_of(block) {
        return Err(TensorProblem::PartialBlock {
            cols,
            block,
            ty: ty.name,
        });
    }
    let bytes = (elements / block).checked_mul(ty.block_bytes);
    bytes
        .filter(|&bytes| i64::try_from(bytes).is_ok())
        .ok_or(TensorProblem::Overflow)
}

/// Turns offsets within the data into offsets within the file, and ends tensors of unknown type
/// at the next tensor.
fn locate(
    entries: &mut [Entry],
    data_start: u64,
    alignment: u64,
    file_len: u64,
) -> Result<(), HeaderError> {
    for Entry { tensor, .. } in &mut *entries {
        let found = tensor.offset;
        if !found.is_multiple_of(alignment) {
            let problem = TensorProblem::Misaligned { found, alignment };
            return Err(HeaderError::Tensor {
                name: Quoted::new(&tensor.name),
                problem,
            });
        }
        // A sum that does not fit stands outside of every file, which the check of the extents
        // then says.
        tensor.offset = found.saturating_add(data_start);
    }
    if entries.iter().all(|entry| entry.len.is_some()) {
        return Ok(());
    }
    let mut starts: Vec<u64> = entries.iter().map(|entry| entry.tensor.offset).collect();
    starts.sort_unstable();
    for Entry { tensor, .. } in entries.iter_mut().filter(|entry| entry.len.is_none()) {
        let next = starts.partition_point(|&start| start <= tensor.offset);
        let end = starts.get(next).copied().unwrap_or(file_len);
        tensor.len = end.saturating_sub(tensor.offset);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
