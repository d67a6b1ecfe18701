//! The number under which a node keeps what somebody comes for.

use super::WireError;
use super::cursor::Cursor;

pub const TICKET_BYTES: usize = 16;

/// Drawn by the node for one client, and good once. Never all zeroes: on the wire that is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket([u8; TICKET_BYTES]);

/// Whoever knows it may come for what it stands for.
impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket(..)")
    }
}

impl Ticket {
    pub fn new(bytes: [u8; TICKET_BYTES]) -> Option<Self> {
        (bytes != [0; TICKET_BYTES]).then_some(Self(bytes))
    }

    pub const fn bytes(&self) -> &[u8; TICKET_BYTES] {
        &self.0
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Option<Self>, WireError> {
        cursor.array().map(Self::new)
    }
}
