//! The wire protocol between a memory node and its clients, version 1. See `docs/PROTOCOL.md`.
//!
//! A frame is a header of 32 bytes, a small body and bulk data. The header bounds both lengths
//! before anything is allocated, and carries checksums of itself and of the body. Everything is
//! little-endian. Codecs are written by hand over a cursor: a frame that decodes encodes to the
//! same bytes again, which the tests and the fuzz targets hold them to.

mod cursor;

pub mod header;

pub mod capability;

pub mod auth;
pub mod sums;
pub mod ticket;

pub mod reply;
pub mod request;

#[doc(hidden)]
pub mod fuzz;

use larder_sys::net::door::LocalName;
use std::fmt;

/// Longest name of a model, in bytes.
pub const NAME_MAX: usize = 255;
/// Hashes in one open or hold, and capabilities in one place.
pub const HASHES_MAX: usize = 1000;
/// Ranges in one get, and frames that a client leaves unanswered on one connection.
pub const CREDITS: usize = 64;
/// Bytes of the largest object; its checksums fit in one body.
pub const OBJECT_MAX: u64 = 8 << 30;

/// Where start `incarnation` of a node that listens on `port` waits for clients of its own host.
/// Who came through a forwarder knows another port, and does not find it.
pub(crate) fn local_name(incarnation: u64, port: u16) -> LocalName {
    LocalName::new(format!("larder-node-{incarnation:016x}-{port}"))
}

/// Where that node gives its memory to clients of its own host who have a ticket.
pub(crate) fn memory_name(incarnation: u64, port: u16) -> LocalName {
    LocalName::new(format!("larder-memory-{incarnation:016x}-{port}"))
}

/// A frame that makes no sense, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a frame does not start with larder's mark; is this a larder node?")]
    Magic,
    #[error(
        "protocol version {found}, this side speaks {}; use the same release",
        header::VERSION
    )]
    Version { found: u16 },
    #[error("unknown operation {op}")]
    Op { op: u16 },
    #[error("a {what} of {len} bytes, at most {max} are allowed")]
    TooLong {
        what: &'static str,
        len: u64,
        max: u64,
    },
    #[error("the checksum of a {what} does not match")]
    Checksum { what: &'static str },
    #[error("a body ends early or is not used up")]
    Body,
    #[error("{what} is out of range")]
    Range { what: &'static str },
}

/// Name of content: blake3 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectHash([u8; 32]);

impl ObjectHash {
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The name of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text)
            .ok()
            .map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
