//! What a client asks.

use super::capability::{CAPABILITY_BYTES, Capability};
use super::cursor::{Cursor, put_name};
use super::header::{BODY_MAX, DATA_MAX, Header, Op, frame};
use super::ticket::{TICKET_BYTES, Ticket};
use super::{CREDITS, HASHES_MAX, OBJECT_MAX, ObjectHash, WireError};

/// Bytes of one range in a get.
const RANGE_BYTES: usize = CAPABILITY_BYTES + 24;

/// What a granted object will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Content with a name: stored once for everybody, stays when the client goes.
    Content(ObjectHash),
    /// Bytes that belong to this connection and go with it.
    Lent,
}

/// Whether data comes with its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Crc,
    /// For measuring what the checksums cost.
    Nothing,
}

/// One range of a get; each is answered by a frame of its own, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetRange {
    /// Request id of the answer.
    pub id: u64,
    pub capability: Capability,
    pub offset: u64,
    /// From 1 to [`DATA_MAX`].
    pub len: u32,
    pub check: Check,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first frame of a connection.
    Hello {
        nonce: [u8; 32],
    },
    /// Proof that the client holds the token.
    Auth {
        proof: [u8; 32],
    },
    /// Nothing; renews the leases of the connection.
    Ping,
    /// Room for an object of `len` bytes.
    Grant {
        len: u64,
        kind: Kind,
    },
    /// Data for a granted object, from `offset`; each byte is written once.
    Put {
        capability: Capability,
        offset: u64,
    },
    /// The object is complete: crc32c of each MiB of it.
    Commit {
        capability: Capability,
        crcs: Vec<u32>,
    },
    Get(Vec<GetRange>),
    Free {
        capability: Capability,
    },
    /// Capabilities for content.
    Open(Vec<ObjectHash>),
    /// Content that the next name keeps.
    Hold(Vec<ObjectHash>),
    /// Names content; the name keeps it and what was held since the last name.
    SetName {
        name: String,
        root: ObjectHash,
    },
    /// Names behind `after`, in order.
    Names {
        after: String,
    },
    Resolve {
        name: String,
    },
    RemoveName {
        name: String,
    },
    Stat,
    /// Objects that the client wants to read where they stand, added to those of a ticket.
    Place {
        ticket: Option<Ticket>,
        capabilities: Vec<Capability>,
    },
}

impl Request {
    /// Decodes the body of a frame whose header has been checked.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, WireError> {
        header.check_body(body)?;
        let mut cursor = Cursor(body);
        let request = Self::of(header.op, &mut cursor)?;
        cursor.end()?;
        Ok(request)
    }

    fn of(op: Op, cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(match op {
            Op::Hello => Self::Hello {
                nonce: cursor.array()?,
            },
            Op::Auth => Self::Auth {
                proof: cursor.array()?,
            },
            Op::Ping => Self::Ping,
            Op::Grant => grant(cursor)?,
            Op::Put => Self::Put {
                capability: Capability::decode(cursor)?,
                offset: cursor.u64()?,
            },
            Op::Commit => Self::Commit {
                capability: Capability::decode(cursor)?,
                crcs: cursor.each(4, BODY_MAX as usize, Cursor::u32)?,
            },
            Op::Get => Self::Get(ranges(cursor)?),
            Op::Free => Self::Free {
                capability: Capability::decode(cursor)?,
            },
            Op::Open => Self::Open(cursor.each(32, HASHES_MAX, Cursor::hash)?),
            Op::Hold => Self::Hold(cursor.each(32, HASHES_MAX, Cursor::hash)?),
            Op::SetName => {
                let (name, root) = (cursor.name()?, cursor.hash()?);
                if name.is_empty() {
                    return Err(WireError::Range { what: "a name" });
                }
                Self::SetName { name, root }
            }
            Op::Names => Self::Names {
                after: cursor.name()?,
            },
            Op::Resolve => Self::Resolve {
                name: cursor.name()?,
            },
            Op::RemoveName => Self::RemoveName {
                name: cursor.name()?,
            },
            Op::Stat => Self::Stat,
            Op::Place => Self::Place {
                ticket: Ticket::decode(cursor)?,
                capabilities: cursor.each(CAPABILITY_BYTES, HASHES_MAX, Capability::decode)?,
            },
            reply => return Err(WireError::Op { op: reply as u16 }),
        })
    }

    pub const fn op(&self) -> Op {
        match self {
            Self::Hello { .. } => Op::Hello,
            Self::Auth { .. } => Op::Auth,
            Self::Ping => Op::Ping,
            Self::Grant { .. } => Op::Grant,
            Self::Put { .. } => Op::Put,
            Self::Commit { .. } => Op::Commit,
            Self::Get(_) => Op::Get,
            Self::Free { .. } => Op::Free,
            Self::Open(_) => Op::Open,
            Self::Hold(_) => Op::Hold,
            Self::SetName { .. } => Op::SetName,
            Self::Names { .. } => Op::Names,
            Self::Resolve { .. } => Op::Resolve,
            Self::RemoveName { .. } => Op::RemoveName,
            Self::Stat => Op::Stat,
            Self::Place { .. } => Op::Place,
        }
    }

    /// Header and body of the frame; `data` bytes follow them.
    pub fn encode(&self, id: u64, data: u32) -> Vec<u8> {
        frame(self.op(), id, data, |body| self.write(body))
    }

    fn write(&self, body: &mut Vec<u8>) {
        match self {
            Self::Hello { nonce: bytes } | Self::Auth { proof: bytes } => {
                body.extend_from_slice(bytes);
            }
            Self::Ping | Self::Stat => {}
            Self::Grant { len, kind } => {
                body.extend_from_slice(&len.to_le_bytes());
                if let Kind::Content(hash) = kind {
                    body.extend_from_slice(hash.bytes());
                }
            }
            Self::Put { capability, offset } => {
                capability.encode(body);
                body.extend_from_slice(&offset.to_le_bytes());
            }
            Self::Commit { capability, crcs } => {
                capability.encode(body);
                for crc in crcs {
                    body.extend_from_slice(&crc.to_le_bytes());
                }
            }
            Self::Get(ranges) => ranges.iter().for_each(|range| put_range(body, range)),
            Self::Free { capability } => capability.encode(body),
            Self::Open(hashes) | Self::Hold(hashes) => {
                for hash in hashes {
                    body.extend_from_slice(hash.bytes());
                }
            }
            Self::SetName { name, root } => {
                put_name(body, name);
                body.extend_from_slice(root.bytes());
            }
            Self::Names { after: name } | Self::Resolve { name } | Self::RemoveName { name } => {
                put_name(body, name);
            }
            Self::Place {
                ticket,
                capabilities,
            } => {
                let ticket = ticket.as_ref().map(Ticket::bytes);
                body.extend_from_slice(ticket.unwrap_or(&[0; TICKET_BYTES]));
                for capability in capabilities {
                    capability.encode(body);
                }
            }
        }
    }
}

fn grant(cursor: &mut Cursor<'_>) -> Result<Request, WireError> {
    let len = cursor.u64()?;
    if len == 0 || len > OBJECT_MAX {
        return Err(WireError::Range {
            what: "the length of an object",
        });
    }
    let kind = if cursor.0.is_empty() {
        Kind::Lent
    } else {
        Kind::Content(cursor.hash()?)
    };
    Ok(Request::Grant { len, kind })
}

fn ranges(cursor: &mut Cursor<'_>) -> Result<Vec<GetRange>, WireError> {
    cursor.each(RANGE_BYTES, CREDITS, |cursor| {
        let range = GetRange {
            id: cursor.u64()?,
            capability: Capability::decode(cursor)?,
            offset: cursor.u64()?,
            len: cursor.u32()?,
            check: match cursor.u32()? {
                0 => Check::Nothing,
                1 => Check::Crc,
                _ => return Err(WireError::Range { what: "a check" }),
            },
        };
        let end = range.offset.checked_add(u64::from(range.len));
        let is_inside = end.is_some_and(|end| end <= range.capability.length);
        if range.len == 0 || range.len > DATA_MAX || !is_inside {
            return Err(WireError::Range {
                what: "the range of a get",
            });
        }
        Ok(range)
    })
}

fn put_range(body: &mut Vec<u8>, range: &GetRange) {
    body.extend_from_slice(&range.id.to_le_bytes());
    range.capability.encode(body);
    body.extend_from_slice(&range.offset.to_le_bytes());
    body.extend_from_slice(&range.len.to_le_bytes());
    let check: u32 = match range.check {
        Check::Nothing => 0,
        Check::Crc => 1,
    };
    body.extend_from_slice(&check.to_le_bytes());
}
