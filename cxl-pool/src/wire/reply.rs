//! What a node answers.

use super::capability::{CAPABILITY_BYTES, Capability};
use super::cursor::{Cursor, put_name};
use super::header::{BODY_MAX, Header, Op, frame};
use super::ticket::Ticket;
use super::{HASHES_MAX, ObjectHash, WireError};

/// What a node says of itself; answers the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub nonce: [u8; 32],
    pub pool: u64,
    pub incarnation: u64,
    /// Bytes of memory it lends.
    pub mem_bytes: u64,
    /// Bytes of disk behind that memory.
    pub disk_bytes: u64,
    /// Milliseconds of silence after which what a connection lent or was granted is gone.
    pub lease_ms: u32,
    /// It wants a proof before anything else.
    pub wants_token: bool,
}

/// What a node holds now, in bytes and objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stat {
    pub mem_bytes: u64,
    pub mem_used: u64,
    pub disk_bytes: u64,
    pub disk_used: u64,
    /// Objects with a content name, and without.
    pub content: u64,
    pub lent: u64,
    pub clients: u64,
    /// Objects that went from memory to disk since the start.
    pub demoted: u64,
}

/// A name, what it stands for, and the bytes that it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedModel {
    pub name: String,
    pub hash: ObjectHash,
    /// Bytes of the root and of everything held by the name.
    pub bytes: u64,
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the node is full: {needed} bytes needed, {free} free; give it more --mem")]
    Full { needed: u64, free: u64 },
    #[error("the handle is stale: its node was restarted or its object freed; open it again")]
    Stale,
    #[error("the handle is not one that this node made for this client")]
    Forged,
    #[error("the token is wrong or missing; use the node's --token-file")]
    Unauthorised,
    #[error("the bytes are not those of the checksums or of the name; send them again")]
    Mismatch,
    #[error("no such object; load it again")]
    Missing,
    #[error("the node could not read or write its disk tier; see its log")]
    Disk,
    #[error("the request makes no sense at this point of the conversation")]
    Misuse,
    #[error("a limit of the node is reached: {limit} at most")]
    Limit { limit: u64 },
    #[error("the object is on the node's disk, not in its memory; get it")]
    NotInMemory,
    #[error("the node does not lend its memory in place; get the object")]
    Unsupported,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Welcome(Welcome),
    Done,
    /// The node's own proof that it holds the token.
    Proof([u8; 32]),
    /// Room that may be written through the capability.
    Granted(Capability),
    /// The object as it can be read, also for a grant of content that is stored already.
    Committed(Capability),
    /// crc32c of each piece between multiples of 64 KiB; the data follows.
    Data(Vec<u32>),
    Opened(Vec<Option<Capability>>),
    /// Names in order; there are none behind the last if it is empty.
    NameList(Vec<NamedModel>),
    Resolved(Option<ObjectHash>),
    Stats(Stat),
    /// First byte of each object in the node's memory, which the ticket opens.
    Placed {
        ticket: Ticket,
        offsets: Vec<u64>,
    },
    Refused(Refusal),
}

impl Reply {
    /// Decodes the body of a frame whose header has been checked.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, WireError> {
        header.check_body(body)?;
        let mut cursor = Cursor(body);
        let reply = Self::of(header.op, &mut cursor)?;
        cursor.end()?;
        Ok(reply)
    }

    fn of(op: Op, cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(match op {
            Op::Welcome => Self::Welcome(welcome(cursor)?),
            Op::Done => Self::Done,
            Op::Proof => Self::Proof(cursor.array()?),
            Op::Granted => Self::Granted(Capability::decode(cursor)?),
            Op::Committed => Self::Committed(Capability::decode(cursor)?),
            Op::Data => Self::Data(cursor.each(4, BODY_MAX as usize, Cursor::u32)?),
            Op::Opened => Self::Opened(opened(cursor)?),
            Op::NameList => Self::NameList(names(cursor)?),
            Op::Resolved if cursor.0.is_empty() => Self::Resolved(None),
            Op::Resolved => Self::Resolved(Some(cursor.hash()?)),
            Op::Stats => Self::Stats(stat(cursor)?),
            Op::Placed => Self::Placed {
                ticket: Ticket::decode(cursor)?.ok_or(WireError::Range { what: "a ticket" })?,
                offsets: cursor.each(8, HASHES_MAX, Cursor::u64)?,
            },
            Op::Refused => Self::Refused(refusal(cursor)?),
            request => return Err(WireError::Op { op: request as u16 }),
        })
    }

    pub const fn op(&self) -> Op {
        match self {
            Self::Welcome(_) => Op::Welcome,
            Self::Done => Op::Done,
            Self::Proof(_) => Op::Proof,
            Self::Granted(_) => Op::Granted,
            Self::Committed(_) => Op::Committed,
            Self::Data(_) => Op::Data,
            Self::Opened(_) => Op::Opened,
            Self::NameList(_) => Op::NameList,
            Self::Resolved(_) => Op::Resolved,
            Self::Stats(_) => Op::Stats,
            Self::Placed { .. } => Op::Placed,
            Self::Refused(_) => Op::Refused,
        }
    }

    /// Header and body of the frame; `data` bytes follow them.
    pub fn encode(&self, id: u64, data: u32) -> Vec<u8> {
        frame(self.op(), id, data, |body| self.write(body))
    }

    fn write(&self, body: &mut Vec<u8>) {
        match self {
            Self::Welcome(welcome) => put_welcome(body, welcome),
            Self::Done | Self::Resolved(None) => {}
            Self::Proof(bytes) => body.extend_from_slice(bytes),
            Self::Granted(capability) | Self::Committed(capability) => capability.encode(body),
            Self::Data(crcs) => {
                for crc in crcs {
                    body.extend_from_slice(&crc.to_le_bytes());
                }
            }
            Self::Opened(each) => {
                for one in each {
                    match one {
                        Some(capability) => capability.encode(body),
                        None => body.extend_from_slice(&[0; CAPABILITY_BYTES]),
                    }
                }
            }
            Self::NameList(models) => {
                for model in models {
                    put_name(body, &model.name);
                    body.extend_from_slice(model.hash.bytes());
                    body.extend_from_slice(&model.bytes.to_le_bytes());
                }
            }
            Self::Resolved(Some(hash)) => body.extend_from_slice(hash.bytes()),
            Self::Stats(stat) => {
                for value in stat_fields(stat) {
                    body.extend_from_slice(&value.to_le_bytes());
                }
            }
            Self::Placed { ticket, offsets } => {
                body.extend_from_slice(ticket.bytes());
                for offset in offsets {
                    body.extend_from_slice(&offset.to_le_bytes());
                }
            }
            Self::Refused(refusal) => put_refusal(body, *refusal),
        }
    }
}

fn welcome(cursor: &mut Cursor<'_>) -> Result<Welcome, WireError> {
    Ok(Welcome {
        nonce: cursor.array()?,
        pool: cursor.u64()?,
        incarnation: cursor.u64()?,
        mem_bytes: cursor.u64()?,
        disk_bytes: cursor.u64()?,
        lease_ms: cursor.u32()?,
        wants_token: match cursor.u32()? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Range { what: "a flag" }),
        },
    })
}

fn put_welcome(body: &mut Vec<u8>, welcome: &Welcome) {
    body.extend_from_slice(&welcome.nonce);
    for value in [
        welcome.pool,
        welcome.incarnation,
        welcome.mem_bytes,
        welcome.disk_bytes,
    ] {
        body.extend_from_slice(&value.to_le_bytes());
    }
    body.extend_from_slice(&welcome.lease_ms.to_le_bytes());
    body.extend_from_slice(&u32::from(welcome.wants_token).to_le_bytes());
}

/// An object that is not there is all zeroes: no node signs that.
fn opened(cursor: &mut Cursor<'_>) -> Result<Vec<Option<Capability>>, WireError> {
    cursor.each(CAPABILITY_BYTES, HASHES_MAX, |cursor| {
        if cursor
            .0
            .iter()
            .take(CAPABILITY_BYTES)
            .all(|&byte| byte == 0)
        {
            cursor.take(CAPABILITY_BYTES)?;
            return Ok(None);
        }
        Capability::decode(cursor).map(Some)
    })
}

fn names(cursor: &mut Cursor<'_>) -> Result<Vec<NamedModel>, WireError> {
    let mut models = Vec::new();
    while !cursor.0.is_empty() {
        models.push(NamedModel {
            name: cursor.name()?,
            hash: cursor.hash()?,
            bytes: cursor.u64()?,
        });
    }
    Ok(models)
}

fn stat(cursor: &mut Cursor<'_>) -> Result<Stat, WireError> {
    Ok(Stat {
        mem_bytes: cursor.u64()?,
        mem_used: cursor.u64()?,
        disk_bytes: cursor.u64()?,
        disk_used: cursor.u64()?,
        content: cursor.u64()?,
        lent: cursor.u64()?,
        clients: cursor.u64()?,
        demoted: cursor.u64()?,
    })
}

const fn stat_fields(stat: &Stat) -> [u64; 8] {
    [
        stat.mem_bytes,
        stat.mem_used,
        stat.disk_bytes,
        stat.disk_used,
        stat.content,
        stat.lent,
        stat.clients,
        stat.demoted,
    ]
}

/// ```text
/// 0      2          8        16     24
/// | code | zero     | needed | free |
/// ```
fn refusal(cursor: &mut Cursor<'_>) -> Result<Refusal, WireError> {
    let code = cursor.u16()?;
    let zero: [u8; 6] = cursor.array()?;
    let (needed, free) = (cursor.u64()?, cursor.u64()?);
    let refusal = match (code, needed, free) {
        (1, needed, free) => Refusal::Full { needed, free },
        (9, limit, 0) => Refusal::Limit { limit },
        (2, 0, 0) => Refusal::Stale,
        (3, 0, 0) => Refusal::Forged,
        (4, 0, 0) => Refusal::Unauthorised,
        (5, 0, 0) => Refusal::Mismatch,
        (6, 0, 0) => Refusal::Missing,
        (7, 0, 0) => Refusal::Disk,
        (8, 0, 0) => Refusal::Misuse,
        (10, 0, 0) => Refusal::NotInMemory,
        (11, 0, 0) => Refusal::Unsupported,
        _ => return Err(WireError::Range { what: "a refusal" }),
    };
    if zero == [0; 6] {
        Ok(refusal)
    } else {
        Err(WireError::Range { what: "a refusal" })
    }
}

fn put_refusal(body: &mut Vec<u8>, refusal: Refusal) {
    let (code, needed, free): (u16, u64, u64) = match refusal {
        Refusal::Full { needed, free } => (1, needed, free),
        Refusal::Stale => (2, 0, 0),
        Refusal::Forged => (3, 0, 0),
        Refusal::Unauthorised => (4, 0, 0),
        Refusal::Mismatch => (5, 0, 0),
        Refusal::Missing => (6, 0, 0),
        Refusal::Disk => (7, 0, 0),
        Refusal::Misuse => (8, 0, 0),
        Refusal::Limit { limit } => (9, limit, 0),
        Refusal::NotInMemory => (10, 0, 0),
        Refusal::Unsupported => (11, 0, 0),
    };
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&[0; 6]);
    body.extend_from_slice(&needed.to_le_bytes());
    body.extend_from_slice(&free.to_le_bytes());
}
