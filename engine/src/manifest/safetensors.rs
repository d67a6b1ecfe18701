//! Header of a safetensors file: eight bytes of length, then JSON, then the data.
//!
//! Source: safetensors, `README.md`, section Format.

use super::error::{HeaderError, Quoted, TensorProblem};
use super::stored::{self, Shape, StoredTensor};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::{ErrorKind, Read};

/// Bytes of JSON that a header may have; the format's own limit.
const HEADER_BYTES_MAX: u64 = 100_000_000;
const TENSORS_MAX: usize = 1 << 18;
const RANK_MAX: u64 = 8;

/// Names of the element types and their bits.
const DTYPES: &[(&str, u64)] = &[
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// Reads and checks a header; the data of the tensors is never read.
///
/// `source` stands at the start of a file of `file_len` bytes. Tensors come in the order of their
/// offsets, with `file` zero.
pub(super) fn read_header(
    source: impl Read,
    file_len: u64,
) -> Result<Vec<StoredTensor>, HeaderError> {
    let json = read_json(source, file_len)?;
    let data_start = 8 + json.len() as u64;
    let Entries(entries) = serde_json::from_slice(&json).map_err(|e| HeaderError::Json {
        detail: Quoted::new(&e.to_string()).to_string(),
    })?;
    let mut tensors = Vec::with_capacity(entries.len());
    let mut names = HashSet::new();
    for (name, entry) in entries {
        if !names.insert(name.clone()) {
            let name = Quoted::new(&name);
            return Err(HeaderError::Duplicate {
                what: "tensor",
                name,
                offset: 8,
            });
        }
        tensors.push(entry.place(name, data_start)?);
    }
    tensors.sort_by_key(|tensor| tensor.offset);
    stored::check_extents(&tensors, file_len)?;
    Ok(tensors)
}

fn read_json(mut source: impl Read, file_len: u64) -> Result<Vec<u8>, HeaderError> {
    let truncated = |what, offset, need| HeaderError::Truncated {
        what,
        offset,
        need,
        file_len,
    };
    let mut prefix = [0; 8];
    source
        .read_exact(&mut prefix)
        .map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => truncated("header length", 0, 8),
            _ => HeaderError::Read { offset: 0, source },
        })?;
    let len = u64::from_le_bytes(prefix);
    if len > HEADER_BYTES_MAX {
        let (what, max) = ("header length", HEADER_BYTES_MAX);
        return Err(HeaderError::TooMany {
            what,
            offset: 0,
            found: len,
            max,
        });
    }
    let mut json = Vec::new();
    if len <= file_len.saturating_sub(8) {
        let read = source.take(len).read_to_end(&mut json);
        read.map_err(|source| HeaderError::Read { offset: 8, source })?;
    }
    if (json.len() as u64) < len {
        return Err(truncated("header", 8, len));
    }
    Ok(json)
}

/// One tensor in the JSON.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    /// First byte and the one after the last, counted from the start of the data.
    data_offsets: (u64, u64),
}

impl Entry {
    fn place(self, name: String, data_start: u64) -> Result<StoredTensor, HeaderError> {
        let refuse = |problem| HeaderError::Tensor {
            name: Quoted::new(&name),
            problem,
        };
        let rank = self.shape.len() as u64;
        if rank > RANK_MAX {
            return Err(refuse(TensorProblem::Rank {
                found: rank,
                max: RANK_MAX,
            }));
        }
        let (start, end) = self.data_offsets;
        let len = end.saturating_sub(start);
        let elements = stored::elements(&self.shape).map_err(refuse)?;
        let known = DTYPES.iter().find(|(dtype, _)| *dtype == self.dtype);
        let type_name = match known {
            Some(&(dtype, bits)) => {
                let bits = elements
                    .checked_mul(bits)
                    .ok_or(refuse(TensorProblem::Overflow))?;
                let expected = bits.div_ceil(8);
                if len != expected {
                    return Err(refuse(TensorProblem::Length {
                        found: len,
                        expected,
                    }));
                }
                Cow::Borrowed(dtype)
            }
            None => Cow::Owned(format!("dtype {}", self.dtype)),
        };
        let offset = data_start.saturating_add(start);
        let shape = Shape::from_vec(self.shape);
        Ok(StoredTensor {
            name,
            type_name,
            shape,
            file: 0,
            offset,
            len,
        })
    }
}

/// All pairs of the JSON object, also those that a map would merge.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if entries.len() == TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
            }
            entries.push((name, map.next_value()?));
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests;
