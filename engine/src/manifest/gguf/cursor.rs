//! Reads a header forwards, never past the end of the file and never more than a header may have.

use crate::manifest::error::HeaderError;
use std::io::{ErrorKind, Read};

/// Bytes that the header of one file may have. The largest known have about 30 MiB.
pub(crate) const HEADER_BYTES_MAX: u64 = 256 << 20;

/// A position in a header, and the proof that what is read next is inside the file.
#[derive(Debug)]
pub(crate) struct Cursor<R> {
    source: R,
    at: u64,
    file_len: u64,
}

impl<R: Read> Cursor<R> {
    pub(crate) fn new(source: R, file_len: u64) -> Self {
        Self {
            source,
            at: 0,
            file_len,
        }
    }

    /// Bytes read so far.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Checks that `need` more bytes are in the file and in the limit of a header.
    pub(crate) fn reserve(&self, need: u64, what: &'static str) -> Result<(), HeaderError> {
        let offset = self.at;
        if need > self.file_len.saturating_sub(offset) {
            return Err(HeaderError::Truncated {
                what,
                offset,
                need,
                file_len: self.file_len,
            });
        }
        let max = HEADER_BYTES_MAX;
        if need > max.saturating_sub(offset) {
            return Err(HeaderError::TooMany {
                what: "header size",
                offset,
                found: need,
                max,
            });
        }
        Ok(())
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], HeaderError> {
        self.reserve(N as u64, what)?;
        let mut bytes = [0; N];
        self.source
            .read_exact(&mut bytes)
            .map_err(|e| self.failed(what, N as u64, e))?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, HeaderError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, HeaderError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Appends `len` bytes to `into`.
    pub(crate) fn append(
        &mut self,
        into: &mut Vec<u8>,
        len: u64,
        what: &'static str,
    ) -> Result<(), HeaderError> {
        self.reserve(len, what)?;
        let mut part = (&mut self.source).take(len);
        let read = part
            .read_to_end(into)
            .map_err(|e| self.failed(what, len, e))?;
        if (read as u64) < len {
            return Err(self.failed(what, len, ErrorKind::UnexpectedEof.into()));
        }
        self.at += len;
        Ok(())
    }

    /// A string with its length before it, at most `max` bytes.
    pub(crate) fn string_bytes(
        &mut self,
        max: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, HeaderError> {
        let offset = self.at;
        let found = self.u64(what)?;
        if found > max {
            return Err(HeaderError::TooMany {
                what,
                offset,
                found,
                max,
            });
        }
        let mut bytes = Vec::new();
        self.append(&mut bytes, found, what)?;
        Ok(bytes)
    }

    /// As [`Self::string_bytes`], and UTF-8.
    pub(crate) fn string(&mut self, max: u64, what: &'static str) -> Result<String, HeaderError> {
        let offset = self.at;
        String::from_utf8(self.string_bytes(max, what)?)
            .map_err(|_| HeaderError::Utf8 { what, offset })
    }

    /// A file that shrank while it was read is truncated; all else is the disk's error.
    fn failed(&self, what: &'static str, need: u64, source: std::io::Error) -> HeaderError {
        let offset = self.at;
        if source.kind() == ErrorKind::UnexpectedEof {
            return HeaderError::Truncated {
                what,
                offset,
                need,
                file_len: self.file_len,
            };
        }
        HeaderError::Read { offset, source }
    }
}
