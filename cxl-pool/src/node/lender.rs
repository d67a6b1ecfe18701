//! Lends the node's memory to processes of its own user, to read in place.
//!
//! One thread looks after all who come. Who comes sends a ticket and gets one byte with the
//! descriptor of the memory; after that nobody says anything, and the connection tells by its end
//! that its reader is gone. Whoever sends no ticket in a second is sent away.

use super::Shared;
use crate::units::Nanos;
use crate::wire::ticket::{TICKET_BYTES, Ticket};
use larder_sys::net::door::{self, LocalListener};
use larder_sys::net::handover::{self, Sign};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Readers at a time.
const READERS_MAX: usize = 64;
/// Time for who comes to send a ticket.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between looks at the clock, with and without somebody whose ticket has not come.
const LOOK: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_secs(1);
/// Rest after the system refused something that it may grant later.
const REST: Duration = Duration::from_millis(50);

/// Who has come.
struct Reader {
    id: u64,
    stream: UnixStream,
    stage: Stage,
}

enum Stage {
    /// So many bytes of the ticket are there.
    Asking {
        since: Nanos,
        ticket: [u8; TICKET_BYTES],
        got: usize,
    },
    /// Maps the memory.
    Reading,
}

/// What becomes of a reader.
#[derive(PartialEq, Eq)]
enum Next {
    Stays,
    Goes,
}

/// Lends until the node stops.
pub(super) fn lend(shared: &Shared, listener: &LocalListener) {
    let mut readers: Vec<Reader> = Vec::new();
    let mut next = 0;
    while !shared.is_stopping() {
        let is_asked = readers.iter().any(Reader::is_asking);
        let wait = if is_asked { LOOK } else { TICK };
        let streams = readers.iter().map(|one| (&one.stream, one.sign()));
        let news = match handover::wait(listener, streams, wait) {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!(%error, "wait for readers in place");
                std::thread::park_timeout(REST);
                continue;
            }
        };
        let now = shared.clock.now();
        let mut signs = news.streams.into_iter();
        readers.retain_mut(|one| {
            let has_news = signs.next().unwrap_or(false);
            one.go_on(shared, has_news, now) == Next::Stays
        });
        if news.is_called && !shared.is_stopping() {
            match listener.accept() {
                Ok(stream) if may_stay(&stream, &readers) => {
                    readers.push(Reader::new(next, stream, now));
                    next += 1;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "accept a reader in place");
                    std::thread::park_timeout(REST);
                }
            }
        }
        shared.places.expire(now);
    }
    // Pins stay: sessions still write memory that is free.
}

/// Whether who has come may stay.
fn may_stay(stream: &UnixStream, readers: &[Reader]) -> bool {
    if !door::is_own_user(stream) {
        tracing::debug!("a reader in place is of another user");
        return false;
    }
    if readers.len() == READERS_MAX {
        tracing::warn!("a reader in place turned away: {READERS_MAX} are the limit");
        return false;
    }
    stream.set_nonblocking(true).is_ok()
}

impl Reader {
    const fn new(id: u64, stream: UnixStream, now: Nanos) -> Self {
        let stage = Stage::Asking {
            since: now,
            ticket: [0; TICKET_BYTES],
            got: 0,
        };
        Self { id, stream, stage }
    }

    const fn is_asking(&self) -> bool {
        matches!(self.stage, Stage::Asking { .. })
    }

    /// What is waited for.
    const fn sign(&self) -> Sign {
        match self.stage {
            Stage::Asking { .. } => Sign::Word,
            Stage::Reading => Sign::End,
        }
    }

    fn go_on(&mut self, shared: &Shared, has_news: bool, now: Nanos) -> Next {
        let Stage::Asking { since, ticket, got } = &mut self.stage else {
            if has_news {
                shared.places.let_go(self.id);
                return Next::Goes;
            }
            return Next::Stays;
        };
        if has_news {
            match self.stream.read(&mut ticket[*got..]) {
                Ok(0) => return Next::Goes,
                Ok(more) => *got += more,
                Err(error) if is_passing(&error) => {}
                Err(_) => return Next::Goes,
            }
        }
        if *got == TICKET_BYTES {
            let ticket = *ticket;
            return self.hand_over(shared, ticket, now);
        }
        if now.since(*since) > PATIENCE.as_nanos() as u64 {
            return Next::Goes;
        }
        Next::Stays
    }

    /// Gives the memory for a ticket.
    fn hand_over(&mut self, shared: &Shared, ticket: [u8; TICKET_BYTES], now: Nanos) -> Next {
        let ticket = Ticket::new(ticket);
        if !ticket.is_some_and(|ticket| shared.places.collect(ticket, self.id, now)) {
            return Next::Goes;
        }
        let descriptor = shared.store.descriptor();
        let given = descriptor.is_some_and(|descriptor| {
            let given = handover::give(&self.stream, descriptor);
            given.is_ok()
        });
        if !given {
            shared.places.let_go(self.id);
            return Next::Goes;
        }
        self.stage = Stage::Reading;
        Next::Stays
    }
}

/// Nothing is there yet.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
