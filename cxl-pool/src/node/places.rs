//! Objects that clients of this host read where they stand: who keeps which where it is.
//!
//! Life of a pin:
//! 1. A session is asked to place objects; they wait under a ticket, which is dropped if nobody
//!    comes with it in the time of a lease.
//! 2. A reader comes with it: from now on they are that reader's.
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

struct Waiting {
    /// The session that may add to it.
    session: u64,
    since: Nanos,
    pins: Pins,
}

#[derive(Default)]
struct State {
    waiting: HashMap<Ticket, Waiting>,
    reading: HashMap<u64, Pins>,
}

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
        if ticket.is_none() && state.waiting.len() == TICKETS_MAX {
            let limit = TICKETS_MAX as u64;
            return Err(Refusal::Limit { limit });
        }
        let ticket = ticket.unwrap_or_else(|| {
            let pins = Pins::new();
            let since = now;
            let waiting = Waiting {
                session,
                since,
                pins,
            };
            state.waiting.insert(drawn, waiting);
            drawn
        });
        let waiting = state.waiting.get_mut(&ticket);
        let waiting = waiting.filter(|waiting| waiting.session == session);
        let waiting = waiting.ok_or(Refusal::Stale)?;
        if waiting.pins.len() + pins.len() > OBJECTS_MAX {
            let limit = OBJECTS_MAX as u64;
            return Err(Refusal::Limit { limit });
        }
        waiting.since = now;
        waiting.pins.extend(pins);
        Ok(ticket)
    }

    /// Forgets a ticket of a session, which will not be used.
    pub(super) fn forget(&self, ticket: Ticket, session: u64) {
        let mut state = self.0.lock();
        let is_its_own = |waiting: &Waiting| waiting.session == session;
        let found = state.waiting.get(&ticket).is_some_and(is_its_own);
        let dropped = found.then(|| state.waiting.remove(&ticket));
        drop(state);
        drop(dropped);
    }

    /// Gives what waits under the ticket to a reader; `false` if nothing does.
    pub(super) fn collect(&self, ticket: Ticket, reader: u64, now: Nanos) -> bool {
        self.expire(now);
        let mut state = self.0.lock();
        let Some(waiting) = state.waiting.remove(&ticket) else {
            return false;
        };
        state.reading.insert(reader, waiting.pins);
        true
    }

    /// The reader is gone.
    pub(super) fn let_go(&self, reader: u64) {
        let pins = self.0.lock().reading.remove(&reader);
        drop(pins);
    }

    /// Drops tickets that nobody came with.
    pub(super) fn expire(&self, now: Nanos) {
        let is_late = |waiting: &Waiting| now.since(waiting.since) > LEASE.as_nanos() as u64;
        let mut state = self.0.lock();
        let late = state.waiting.extract_if(|_, waiting| is_late(waiting));
        let late: Vec<_> = late.collect();
        drop(state);
        drop(late);
    }
}

fn draw() -> Option<Ticket> {
    let secret = larder_sys::random::secret().ok()?;
    let bytes = secret.first_chunk::<TICKET_BYTES>()?;
    Ticket::new(*bytes)
}
