//! Values of the metadata of a GGUF file.
//!
//! Arrays stay as the bytes of the file and are decoded when asked for, so a header never takes
//! more memory than it has bytes (plus a few per string).

use super::cursor::{Cursor, HEADER_BYTES_MAX};
use crate::manifest::error::{HeaderError, Quoted};
use std::io::Read;

const NESTING_MAX: u32 = 4;

/// One value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    Strings(Strings),
    Numbers(Numbers),
    /// An array of arrays, checked and skipped: nothing that we read uses one.
    Nested,
}

/// An array of strings in two allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// End of each string in `text`.
    ends: Vec<u32>,
}

impl Strings {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        Some(&self.text[start..end])
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i).expect("indices run to the length"))
    }
}

/// An array of numbers as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    kind: Kind,
    raw: Vec<u8>,
}

impl Numbers {
    pub fn len(&self) -> usize {
        self.raw.len() / self.kind.bytes() as usize
    }

    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The raw bytes, if every number is one byte.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        (self.kind.bytes() == 1).then_some(&self.raw)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = Value> {
        self.raw
            .chunks_exact(self.kind.bytes() as usize)
            .map(|bytes| self.kind.decode(bytes))
    }
}

impl Value {
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => value.try_into().ok(),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Unsigned(value) => value.try_into().ok(),
            Self::Signed(value) => Some(value),
            _ => None,
        }
    }

    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(value) => Some(value),
            Self::F64(value) => Some(value as f32),
            _ => None,
        }
    }

    /// The value in a few words, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::F32(value) => value.to_string(),
            Self::F64(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Str(text) => Quoted::new(text).to_string(),
            Self::Strings(strings) => format!("an array of {} strings", strings.len()),
            Self::Numbers(numbers) => format!("an array of {} numbers", numbers.len()),
            Self::Nested => "an array of arrays".to_owned(),
        }
    }
}

/// Type code of a value. Source: GGUF specification, `gguf_metadata_value_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    /// In the order of their codes.
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Str,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn read(cursor: &mut Cursor<impl Read>) -> Result<Self, HeaderError> {
        let offset = cursor.at();
        let found = cursor.u32("value type")?;
        let kind = Self::ALL.get(found as usize).copied();
        kind.ok_or(HeaderError::ValueType { found, offset })
    }

    /// Least bytes of one value of this kind in the file.
    const fn bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Str => 8,
            Self::Array => 12,
        }
    }

    /// Decodes a number or a bool from exactly [`Self::bytes`] bytes.
    fn decode(self, bytes: &[u8]) -> Value {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Value::Unsigned(bits),
            Self::I8 => Value::Signed((bits as i8).into()),
            Self::I16 => Value::Signed((bits as i16).into()),
            Self::I32 => Value::Signed((bits as i32).into()),
            Self::I64 => Value::Signed(bits as i64),
            Self::F32 => Value::F32(f32::from_bits(bits as u32)),
            Self::F64 => Value::F64(f64::from_bits(bits)),
            Self::Bool => Value::Bool(bits != 0),
            Self::Str | Self::Array => unreachable!("strings and arrays have their own readers"),
        }
    }
}

/// Reads one value of this kind.
pub(super) fn read_value(cursor: &mut Cursor<impl Read>, kind: Kind) -> Result<Value, HeaderError> {
    match kind {
        // A description may be in any encoding; tokens and names may not.
        Kind::Str => {
            let bytes = cursor.string_bytes(HEADER_BYTES_MAX, "string")?;
            Ok(Value::Str(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Kind::Array => read_array(cursor),
        _ => {
            let mut bytes = Vec::with_capacity(8);
            cursor.append(&mut bytes, kind.bytes(), "value")?;
            Ok(kind.decode(&bytes))
        }
    }
}

fn read_array(cursor: &mut Cursor<impl Read>) -> Result<Value, HeaderError> {
    let kind = Kind::read(cursor)?;
    let count = read_count(cursor, kind)?;
    match kind {
        Kind::Str => Ok(Value::Strings(read_strings(cursor, count)?)),
        Kind::Array => {
            skip_arrays(cursor, count, 2)?;
            Ok(Value::Nested)
        }
        _ => {
            let mut raw = Vec::new();
            cursor.append(&mut raw, count * kind.bytes(), "array")?;
            Ok(Value::Numbers(Numbers { kind, raw }))
        }
    }
}

/// Reads the length of an array and checks that the file can hold so many.
fn read_count(cursor: &mut Cursor<impl Read>, kind: Kind) -> Result<u64, HeaderError> {
    let count = cursor.u64("array length")?;
    cursor.reserve(count.saturating_mul(kind.bytes()), "array")?;
    Ok(count)
}

fn read_strings(cursor: &mut Cursor<impl Read>, count: u64) -> Result<Strings, HeaderError> {
    let mut text = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..count {
        let offset = cursor.at();
        let len = cursor.u64("string")?;
        let start = text.len();
        cursor.append(&mut text, len, "string")?;
        if std::str::from_utf8(&text[start..]).is_err() {
            return Err(HeaderError::Utf8 {
                what: "string of an array",
                offset,
            });
        }
        ends.push(u32::try_from(text.len()).expect("a header has less than 4 GiB"));
    }
    let text = String::from_utf8(text).expect("every piece was checked");
    Ok(Strings { text, ends })
}

/// Walks over `count` arrays that are elements of an array of `depth - 1` levels.
fn skip_arrays(cursor: &mut Cursor<impl Read>, count: u64, depth: u32) -> Result<(), HeaderError> {
    if depth > NESTING_MAX {
        let (found, max) = (depth.into(), NESTING_MAX.into());
        let what = "nesting of arrays";
        return Err(HeaderError::TooMany {
            what,
            offset: cursor.at(),
            found,
            max,
        });
    }
    for _ in 0..count {
        let kind = Kind::read(cursor)?;
        let count = read_count(cursor, kind)?;
        match kind {
            Kind::Array => skip_arrays(cursor, count, depth + 1)?,
            Kind::Str => {
                read_strings(cursor, count)?;
            }
            _ => cursor.append(&mut Vec::new(), count * kind.bytes(), "array")?,
        }
    }
    Ok(())
}
