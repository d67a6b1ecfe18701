//! Objects that clients of this host read where they stand: who keeps which where it is.
//!
//! Life of a pin:
//! 1. A session is asked to place objects; they wait under a ticket, which is dropped if nobody
//!    comes with it in the time of a lease.
//! 2. A reader comes with it: from now on they are that reader's. The session may add more.
//! 3. The reader is gone. Nothing else ends it: one that is stopped for an hour goes on with the
//!    same bytes. So they stay when the node stops too, until nobody writes its memory any more.

use super::LEASE;
use crate::units::Nanos;
use crate::wire::reply::Refusal;
use crate::wire::ticket::{TICKET_BYTES, Ticket};
use larder_sys::lease::Scratch;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Tickets that wait, at most.
const TICKETS_MAX: usize = 64;
/// Objects under one ticket, at most: as many as a node holds.
const OBJECTS_MAX: usize = 1 << 17;

type Pins = Vec<Arc<Scratch>>;

/// What stands under a ticket.
struct Placed {
    /// The session that may add to it.
    session: u64,
    since: Nanos,
    pins: Pins,
    /// Who came with the ticket.
    reader: Option<u64>,
}

impl Placed {
    /// Nobody has come with the ticket.
    const fn waits(&self) -> bool {
        self.reader.is_none()
    }
}

type State = HashMap<Ticket, Placed>;

/// See the module. Pins are dropped after the lock is.
#[derive(Default)]
pub(super) struct Places(Mutex<State>);

impl Places {
    /// Adds pins to those of a ticket, or to a new one.
    pub(super) fn add(
        &self,
        ticket: Option<Ticket>,
        session: u64,
        pins: Pins,
        now: Nanos,
    ) -> Result<Ticket, Refusal> {
        let drawn = draw().ok_or(Refusal::Misuse)?;
        let mut state = self.0.lock();
        let waiting = state.values().filter(|placed| placed.waits()).count();
        if ticket.is_none() && waiting == TICKETS_MAX {
            let limit = TICKETS_MAX as u64;
            return Err(Refusal::Limit { limit });
        }
        let ticket = ticket.unwrap_or_else(|| {
            let placed = Placed {
                session,
                since: now,
                pins: Pins::new(),
                reader: None,
            };
            state.insert(drawn, placed);
            drawn
        });
        let placed = state.get_mut(&ticket);
        let placed = placed.filter(|placed| placed.session == session);
        let placed = placed.ok_or(Refusal::Stale)?;
        if placed.pins.len() + pins.len() > OBJECTS_MAX {
            let limit = OBJECTS_MAX as u64;
            return Err(Refusal::Limit { limit });
        }
        placed.since = now;
        placed.pins.extend(pins);
        Ok(ticket)
    }

    /// Forgets a ticket of a session, with which nobody will come; a reader keeps what it has.
    pub(super) fn forget(&self, ticket: Ticket, session: u64) {
        let mut state = self.0.lock();
        let is_unused = |placed: &Placed| placed.session == session && placed.waits();
        let found = state.get(&ticket).is_some_and(is_unused);
        let dropped = found.then(|| state.remove(&ticket));
        drop(state);
        drop(dropped);
    }

    /// Gives what waits under the ticket to a reader; `false` if nothing does.
    pub(super) fn collect(&self, ticket: Ticket, reader: u64, now: Nanos) -> bool {
        self.expire(now);
        let mut state = self.0.lock();
        let placed = state.get_mut(&ticket).filter(|placed| placed.waits());
        placed.map(|placed| placed.reader = Some(reader)).is_some()
    }

    /// The reader is gone.
    pub(super) fn let_go(&self, reader: u64) {
        self.drop_if(|placed| placed.reader == Some(reader));
    }

    /// Drops tickets that nobody came with.
    pub(super) fn expire(&self, now: Nanos) {
        let lease = LEASE.as_nanos() as u64;
        self.drop_if(|placed| placed.waits() && now.since(placed.since) > lease);
    }

    fn drop_if(&self, which: impl Fn(&Placed) -> bool) {
        let mut state = self.0.lock();
        let dropped = state.extract_if(|_, placed| which(placed));
        let dropped: Vec<_> = dropped.collect();
        drop(state);
        drop(dropped);
    }
}

fn draw() -> Option<Ticket> {
    let secret = larder_sys::random::secret().ok()?;
    let bytes = secret.first_chunk::<TICKET_BYTES>()?;
    Ticket::new(*bytes)
}
