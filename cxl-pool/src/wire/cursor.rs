//! Reading a body front to back, and writing one.

use super::{NAME_MAX, ObjectHash, WireError};

/// What is left of a body.
#[derive(Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(WireError::Body)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("taken with that length"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn hash(&mut self) -> Result<ObjectHash, WireError> {
        self.array().map(ObjectHash::new)
    }

    /// A name: its length in one byte, then printable UTF-8.
    pub(super) fn name(&mut self) -> Result<String, WireError> {
        let len = usize::from(self.u8()?);
        let text = std::str::from_utf8(self.take(len)?)
            .map_err(|_| WireError::Range { what: "a name" })?;
        check_name(text)?;
        Ok(text.to_owned())
    }

    /// The whole body as elements of `size` bytes.
    pub(super) fn each<T>(
        &mut self,
        size: usize,
        max: usize,
        one: impl Fn(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        if !self.0.len().is_multiple_of(size) {
            return Err(WireError::Body);
        }
        let count = self.0.len() / size;
        if count > max {
            return Err(WireError::Range { what: "a count" });
        }
        (0..count).map(|_| one(self)).collect()
    }

    /// The body is used up.
    pub(super) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(WireError::Body)
        }
    }
}

/// A name may be empty only as the place to list from; it has no control characters.
fn check_name(text: &str) -> Result<(), WireError> {
    if text.len() > NAME_MAX || text.chars().any(char::is_control) {
        return Err(WireError::Range { what: "a name" });
    }
    Ok(())
}

pub(super) fn put_name(body: &mut Vec<u8>, name: &str) {
    let len = u8::try_from(name.len()).expect("names are checked where they enter");
    body.push(len);
    body.extend_from_slice(name.as_bytes());
}
