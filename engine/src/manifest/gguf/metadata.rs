//! Key-value part of a GGUF header.

use super::cursor::Cursor;
use super::value::{Kind, Numbers, Strings, Value, read_value};
use crate::manifest::error::{HeaderError, Quoted};
use std::collections::BTreeMap;
use std::io::Read;

/// Keys of one file; more than any architecture writes by two orders.
pub(crate) const KEYS_MAX: u64 = 1 << 16;
const KEY_BYTES_MAX: u64 = 65_535;

/// Everything that a GGUF file says about itself.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All keys and values in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    // The typed getters: `None` if the key is absent, of another type, or out of range.

    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    pub fn u32(&self, key: &str) -> Option<u32> {
        self.u64(key)?.try_into().ok()
    }

    pub fn f32(&self, key: &str) -> Option<f32> {
        self.get(key)?.as_f32()
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn strings(&self, key: &str) -> Option<&Strings> {
        match self.get(key)? {
            Value::Strings(strings) => Some(strings),
            _ => None,
        }
    }

    pub fn f32s(&self, key: &str) -> Option<Vec<f32>> {
        self.numbers(key)?
            .values()
            .map(|value| value.as_f32())
            .collect()
    }

    pub fn i32s(&self, key: &str) -> Option<Vec<i32>> {
        self.numbers(key)?
            .values()
            .map(|value| value.as_i64()?.try_into().ok())
            .collect()
    }

    pub fn u32s(&self, key: &str) -> Option<Vec<u32>> {
        self.numbers(key)?
            .values()
            .map(|value| value.as_u64()?.try_into().ok())
            .collect()
    }

    /// An array of single bytes, signed or not.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.numbers(key)?.bytes()
    }

    fn numbers(&self, key: &str) -> Option<&Numbers> {
        match self.get(key)? {
            Value::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// Reads `count` pairs of key and value.
    pub(crate) fn read(cursor: &mut Cursor<impl Read>, count: u64) -> Result<Self, HeaderError> {
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let offset = cursor.at();
            let key = cursor.string(KEY_BYTES_MAX, "key")?;
            let kind = Kind::read(cursor)?;
            let value = read_value(cursor, kind)?;
            if values.contains_key(&key) {
                let name = Quoted::new(&key);
                return Err(HeaderError::Duplicate {
                    what: "key",
                    name,
                    offset,
                });
            }
            values.insert(key, value);
        }
        Ok(Self { values })
    }
}
