//! Capabilities: the right to one object of one node, as long as that node runs.
//!
//! ```text
//! 0      8             16       20           24       32       36       40     56
//! | pool | incarnation | extent | generation | length | crc32c | tenant | MAC  |
//! ```
//!
//! The MAC is keyed blake3 of the 40 bytes before it, cut to 16 bytes, under a secret that the
//! node draws at each start. A client can neither make nor change one.

use super::WireError;
use super::cursor::Cursor;

pub const CAPABILITY_BYTES: usize = 56;

const SIGNED: usize = 40;
const MAC_BYTES: usize = 16;

/// See the module. Equal fields do not make a right: [`Signer::check`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The node's memory.
    pub pool: u64,
    /// One start of the node.
    pub incarnation: u64,
    /// Place in the node's table of objects.
    pub extent: u32,
    /// Use of that place.
    pub generation: u32,
    /// Bytes of the object.
    pub length: u64,
    /// crc32c of the whole object; zero while it is being written.
    pub crc: u32,
    pub tenant: u32,
    mac: [u8; MAC_BYTES],
}

impl Capability {
    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self {
            pool: cursor.u64()?,
            incarnation: cursor.u64()?,
            extent: cursor.u32()?,
            generation: cursor.u32()?,
            length: cursor.u64()?,
            crc: cursor.u32()?,
            tenant: cursor.u32()?,
            mac: cursor.array()?,
        })
    }

    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(&self.signed());
        body.extend_from_slice(&self.mac);
    }

    fn signed(&self) -> [u8; SIGNED] {
        let mut bytes = [0; SIGNED];
        bytes[..8].copy_from_slice(&self.pool.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.extent.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.length.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.crc.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.tenant.to_le_bytes());
        bytes
    }
}

/// What a capability says of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub extent: u32,
    pub generation: u32,
    pub length: u64,
    pub crc: u32,
    pub tenant: u32,
}

/// Signs and checks the capabilities of one start of a node.
pub struct Signer {
    pub pool: u64,
    pub incarnation: u64,
    secret: [u8; 32],
}

impl Signer {
    pub const fn new(pool: u64, incarnation: u64, secret: [u8; 32]) -> Self {
        Self {
            pool,
            incarnation,
            secret,
        }
    }

    pub fn sign(&self, claim: Claim) -> Capability {
        let mut capability = Capability {
            pool: self.pool,
            incarnation: self.incarnation,
            extent: claim.extent,
            generation: claim.generation,
            length: claim.length,
            crc: claim.crc,
            tenant: claim.tenant,
            mac: [0; MAC_BYTES],
        };
        let mac = blake3::keyed_hash(&self.secret, &capability.signed());
        capability.mac.copy_from_slice(&mac.as_bytes()[..MAC_BYTES]);
        capability
    }

    /// Whether this start of the node made the capability, for `tenant`.
    pub fn check(&self, capability: &Capability, tenant: u32) -> Standing {
        if (capability.pool, capability.incarnation) != (self.pool, self.incarnation) {
            return Standing::Stale;
        }
        let mac = blake3::keyed_hash(&self.secret, &capability.signed());
        // Every byte is looked at, so the time says nothing about the first wrong one.
        let differs = mac.as_bytes()[..MAC_BYTES]
            .iter()
            .zip(&capability.mac)
            .fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        if differs != 0 || capability.tenant != tenant {
            return Standing::Forged;
        }
        Standing::Good
    }
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// Made by another start of the node, or by another node.
    Stale,
    /// Made or changed by somebody else.
    Forged,
}
