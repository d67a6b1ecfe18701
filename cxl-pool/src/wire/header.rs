//! The header of every frame.
//!
//! ```text
//! 0       4         6    8            16      20      24       28       32
//! | magic | version | op | request id | body  | data  | header | body   |
//! | LRDR  | 1       |    |            | bytes | bytes | crc32c | crc32c |
//! ```

use super::WireError;
use super::cursor::Cursor;
use crate::crc::crc32c;

pub const HEADER_BYTES: usize = 32;
pub const VERSION: u16 = 1;
/// Largest body, in bytes.
pub const BODY_MAX: u32 = 64 << 10;
/// Most data in one frame, in bytes.
pub const DATA_MAX: u32 = 1 << 20;

const MAGIC: [u8; 4] = *b"LRDR";
/// Bytes that the header's own checksum covers.
const CHECKED: usize = 24;

/// What a frame is. Replies have the high bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    Hello = 1,
    Auth = 2,
    Ping = 3,
    Grant = 4,
    Put = 5,
    Commit = 6,
    Get = 7,
    Free = 8,
    Open = 9,
    Hold = 10,
    SetName = 11,
    Names = 12,
    Resolve = 13,
    RemoveName = 14,
    Stat = 15,
    Place = 16,
    Welcome = 0x8001,
    Done = 0x8002,
    Proof = 0x8003,
    Granted = 0x8004,
    Committed = 0x8006,
    Data = 0x8007,
    Opened = 0x8009,
    NameList = 0x800c,
    Resolved = 0x800d,
    Stats = 0x800f,
    Placed = 0x8010,
    Refused = 0x80ff,
}

impl Op {
    const ALL: [Self; 28] = [
        Self::Hello,
        Self::Auth,
        Self::Ping,
        Self::Grant,
        Self::Put,
        Self::Commit,
        Self::Get,
        Self::Free,
        Self::Open,
        Self::Hold,
        Self::SetName,
        Self::Names,
        Self::Resolve,
        Self::RemoveName,
        Self::Stat,
        Self::Place,
        Self::Welcome,
        Self::Done,
        Self::Proof,
        Self::Granted,
        Self::Committed,
        Self::Data,
        Self::Opened,
        Self::NameList,
        Self::Resolved,
        Self::Stats,
        Self::Placed,
        Self::Refused,
    ];

    fn from_code(op: u16) -> Result<Self, WireError> {
        let found = Self::ALL.into_iter().find(|known| *known as u16 == op);
        found.ok_or(WireError::Op { op })
    }

    /// Frames of this kind may carry data.
    pub const fn has_data(self) -> bool {
        matches!(self, Self::Put | Self::Data)
    }

    pub const fn is_reply(self) -> bool {
        self as u16 & 0x8000 != 0
    }
}

/// A header that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub op: Op,
    /// Chosen by the client; comes back in the reply.
    pub id: u64,
    /// Bytes of the body, at most [`BODY_MAX`].
    pub body: u32,
    /// Bytes of bulk data behind the body, at most [`DATA_MAX`].
    pub data: u32,
    pub body_crc: u32,
}

impl Header {
    /// Checks everything that can be told before the body is there.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let mut cursor = Cursor(bytes);
        if cursor.array::<4>()? != MAGIC {
            return Err(WireError::Magic);
        }
        let (version, op) = (cursor.u16()?, cursor.u16()?);
        let (id, body, data) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
        let (crc, body_crc) = (cursor.u32()?, cursor.u32()?);
        if crc != crc32c(&bytes[..CHECKED]) {
            return Err(WireError::Checksum { what: "header" });
        }
        if version != VERSION {
            return Err(WireError::Version { found: version });
        }
        let op = Op::from_code(op)?;
        let data_max = if op.has_data() { DATA_MAX } else { 0 };
        for (what, len, max) in [("body", body, BODY_MAX), ("data block", data, data_max)] {
            if len > max {
                let (len, max) = (u64::from(len), u64::from(max));
                return Err(WireError::TooLong { what, len, max });
            }
        }
        Ok(Self {
            op,
            id,
            body,
            data,
            body_crc,
        })
    }

    /// Fails unless `body` is the one the header announced.
    pub fn check_body(&self, body: &[u8]) -> Result<(), WireError> {
        if body.len() == self.body as usize && crc32c(body) == self.body_crc {
            Ok(())
        } else {
            Err(WireError::Checksum { what: "body" })
        }
    }
}

/// A frame up to its data: header and body, the body written by `write`.
pub(super) fn frame(op: Op, id: u64, data: u32, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    write(&mut bytes);
    let body = bytes.len() - HEADER_BYTES;
    assert!(
        body <= BODY_MAX as usize,
        "bodies are bounded where they are made"
    );
    assert!(data <= DATA_MAX, "data is cut where it is sent");
    let body_crc = crc32c(&bytes[HEADER_BYTES..]);
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[6..8].copy_from_slice(&(op as u16).to_le_bytes());
    bytes[8..16].copy_from_slice(&id.to_le_bytes());
    bytes[16..20].copy_from_slice(&(body as u32).to_le_bytes());
    bytes[20..24].copy_from_slice(&data.to_le_bytes());
    let crc = crc32c(&bytes[..CHECKED]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes[28..32].copy_from_slice(&body_crc.to_le_bytes());
    bytes
}
