//! One connection of a node, on a thread of its own.
//!
//! The session takes one frame after the other: header, body, and for a put the data, straight
//! into the granted extent. Replies queue in the channel; gets wait here and are answered as the
//! queue of the channel drains. Both queues are bounded: while they are full nothing more is
//! received, so a client that never reads stops itself, and only itself, until it is sent away.

use super::grants::{Grants, Key};
use super::store::{Grant, Store};
use super::{LEASE, Shared};
use crate::units::Nanos;
use crate::wire::header::{HEADER_BYTES, Header};
use crate::wire::reply::{Refusal, Reply};
use crate::wire::request::{GetRange, Request};
use crate::wire::{CREDITS, ObjectHash, WireError};
use larder_sys::io::Errno;
use larder_sys::net::{Channel, Event, Incoming, Message, Outgoing, Targets};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Messages in the channel above which nothing more is received or answered.
const UNSENT_MAX: usize = 8;
/// Time without progress in the middle of a frame, a reply or the handshake.
const STALL: Duration = Duration::from_secs(20);
/// Time between looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// Time for the last reply of a session to leave.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("the client left")]
    Left,
    #[error("connection lost: {0}")]
    Lost(Errno),
    #[error("bad frame: {0}")]
    Frame(#[from] WireError),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("no progress for {} s", STALL.as_secs())]
    Stalled,
    #[error("silent for {} s, its lease has expired", LEASE.as_secs())]
    Silent,
    #[error("the node stops")]
    Stopping,
}

/// What is received next.
enum Stage {
    Header,
    Body(Header),
    /// Data of a put into a grant.
    Data(Header, Key, Grant),
    /// Data of a put that is refused; received all the same, to stay in step.
    Waste(Header, Refusal),
}

/// How far the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Stranger,
    /// Its nonce and ours.
    Greeted([[u8; 32]; 2]),
    Trusted,
}

/// What follows from a request.
pub(super) enum Answer {
    Reply(Reply),
    /// Ranges that are answered one by one.
    Gets(Vec<GetRange>),
    /// The last reply of the connection.
    Goodbye(Refusal),
}

/// See the module.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    channel: Box<dyn Channel>,
    /// Number of the connection; what it lends is known by it.
    pub(super) id: u64,
    pub(super) trust: Trust,
    pub(super) grants: Grants,
    /// Content that the next name keeps.
    pub(super) held: Vec<ObjectHash>,
    stage: Stage,
    receiving: bool,
    gets: VecDeque<GetRange>,
    unsent: usize,
    /// Objects lent and not freed, so that silence matters.
    pub(super) lends: bool,
    moved_at: Nanos,
    heard_at: Nanos,
    /// Why it ends, and since when; its last replies are on their way.
    leaving: Option<(Ending, Nanos)>,
    events: Vec<Event>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, channel: Box<dyn Channel>, id: u64) -> Self {
        let now = shared.clock.now();
        Self {
            shared,
            channel,
            id,
            trust: Trust::Stranger,
            grants: Grants::default(),
            held: Vec::new(),
            stage: Stage::Header,
            receiving: false,
            gets: VecDeque::new(),
            unsent: 0,
            lends: false,
            moved_at: now,
            heard_at: now,
            leaving: None,
            events: Vec::new(),
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Serves until the connection ends, and gives up what belonged to it.
    pub(super) fn serve(&mut self) -> Ending {
        loop {
            if let Some(ending) = self.turn() {
                return ending;
            }
        }
    }

    /// One turn: does what it can, waits for news a moment and takes them. An ending once the
    /// session is over and what belonged to it has been given up.
    pub(super) fn turn(&mut self) -> Option<Ending> {
        if self.leaving.is_some() {
            return self.take_leave();
        }
        let Err(ending) = self.go_on() else {
            return None;
        };
        if let Ending::Frame(_) = ending {
            self.reply(0, &Reply::Refused(Refusal::Misuse));
        }
        let may_speak = !matches!(ending, Ending::Lost(_) | Ending::Stalled);
        self.leaving = Some((ending, self.shared.clock.now()));
        if may_speak {
            return self.take_leave();
        }
        self.unsent = 0;
        self.take_leave()
    }

    /// Ends the channel. Pages that the client can still read stay where they are until it has.
    pub(super) fn end(self) {
        if let Some(rest) = self.channel.into_rest() {
            self.shared.store.park(rest);
        }
    }

    fn go_on(&mut self) -> Result<(), Ending> {
        self.answer_gets();
        self.receive_next();
        let mut events = std::mem::take(&mut self.events);
        self.channel.reap(&mut events, TICK);
        let now = self.shared.clock.now();
        let result = events.drain(..).try_for_each(|event| {
            self.moved_at = now;
            match event {
                Event::Sent { outcome, .. } => {
                    self.unsent -= 1;
                    outcome.map_err(Ending::Lost)
                }
                Event::Received { targets, outcome } => {
                    self.receiving = false;
                    self.heard_at = now;
                    self.received(targets, outcome)
                }
            }
        });
        self.events = events;
        result.and_then(|()| self.check_time(now))
    }

    /// Sends what can still be sent after the last frame was understood, then gives up what
    /// belonged to the connection.
    fn take_leave(&mut self) -> Option<Ending> {
        let since = self.leaving.as_ref().map(|(_, since)| *since)?;
        if self.unsent > 0 {
            let mut events = std::mem::take(&mut self.events);
            self.channel.reap(&mut events, FAREWELL);
            let sent = events.drain(..).filter(|e| matches!(e, Event::Sent { .. }));
            self.unsent -= sent.count();
            self.events = events;
            let waited = self.shared.clock.now().since(since);
            if self.unsent > 0 && waited <= FAREWELL.as_nanos() as u64 {
                return None;
            }
        }
        for grant in self.grants.drain() {
            self.shared.store.abandon(&grant);
        }
        if let Stage::Data(_, _, grant) = std::mem::replace(&mut self.stage, Stage::Header) {
            self.shared.store.abandon(&grant);
        }
        self.shared.store.free_lent(self.id);
        self.leaving.take().map(|(ending, _)| ending)
    }

    fn check_time(&self, now: Nanos) -> Result<(), Ending> {
        if self.shared.is_stopping() {
            return Err(Ending::Stopping);
        }
        let is_past = |since, limit: Duration| now.since(since) > limit.as_nanos() as u64;
        let is_midway = !matches!(self.stage, Stage::Header) || self.unsent > 0;
        if (is_midway || self.trust != Trust::Trusted) && is_past(self.moved_at, STALL) {
            return Err(Ending::Stalled);
        }
        if (self.lends || !self.grants.is_empty()) && is_past(self.heard_at, LEASE) {
            return Err(Ending::Silent);
        }
        Ok(())
    }

    /// Posts the receive that the stage wants, unless the client has to read first.
    fn receive_next(&mut self) {
        let is_full = self.unsent >= UNSENT_MAX || self.gets.len() >= CREDITS;
        if self.receiving || (matches!(self.stage, Stage::Header) && is_full) {
            return;
        }
        let target = match &mut self.stage {
            Stage::Header => Incoming::Owned(vec![0; HEADER_BYTES]),
            Stage::Body(header) => Incoming::Owned(vec![0; header.body as usize]),
            Stage::Waste(header, _) => Incoming::Owned(vec![0; header.data as usize]),
            Stage::Data(header, _, grant) => {
                let scratch = grant.scratch.take();
                let scratch = scratch.expect("the memory is there when a put begins");
                let start = grant.put_at as usize;
                Incoming::Grant(scratch, start..start + header.data as usize)
            }
        };
        self.receiving = true;
        self.channel.receive(Targets::from_iter([target]));
    }

    /// Takes what the stage waited for, and goes on to the next.
    fn received(&mut self, mut targets: Targets, outcome: Result<(), Errno>) -> Result<(), Ending> {
        let is_start = matches!(self.stage, Stage::Header);
        outcome.map_err(|errno| match errno {
            Errno::ECONNRESET if is_start => Ending::Left,
            errno => Ending::Lost(errno),
        })?;
        let target = targets.pop().expect("one target was posted");
        match std::mem::replace(&mut self.stage, Stage::Header) {
            Stage::Header => {
                let bytes = target.bytes().first_chunk::<HEADER_BYTES>();
                let header = Header::decode(bytes.expect("posted with that length"))?;
                if header.body > 0 {
                    self.stage = Stage::Body(header);
                    return Ok(());
                }
                self.take(header, &[])
            }
            Stage::Body(header) => self.take(header, target.bytes()),
            Stage::Data(header, key, grant) => {
                let Incoming::Grant(scratch, _) = target else {
                    unreachable!("a grant was posted");
                };
                self.grants.end_put(key, grant, scratch);
                self.reply(header.id, &Reply::Done);
                Ok(())
            }
            Stage::Waste(header, refusal) => {
                self.reply(header.id, &Reply::Refused(refusal));
                Ok(())
            }
        }
    }

    /// Takes a frame whose body is there.
    fn take(&mut self, header: Header, body: &[u8]) -> Result<(), Ending> {
        let request = Request::decode(&header, body)?;
        if let Request::Put { capability, offset } = request {
            let begun = if self.trust == Trust::Trusted && header.data > 0 {
                let checked = self.store().check(&capability);
                let len = u64::from(header.data);
                checked.and_then(|()| self.grants.begin_put(&capability, offset, len))
            } else {
                return Err(Refusal::Misuse.into());
            };
            self.stage = match begun {
                Ok(grant) => Stage::Data(header, Key::of(&capability), grant),
                Err(refusal) => Stage::Waste(header, refusal),
            };
            return Ok(());
        }
        match self.answer(request) {
            Answer::Reply(reply) => {
                self.reply(header.id, &reply);
                Ok(())
            }
            Answer::Gets(ranges) => {
                self.gets.extend(ranges);
                Ok(())
            }
            Answer::Goodbye(refusal) => {
                self.reply(header.id, &Reply::Refused(refusal));
                Err(refusal.into())
            }
        }
    }

    /// Answers ranges that wait, while the channel has room.
    fn answer_gets(&mut self) {
        while self.unsent < UNSENT_MAX {
            let Some(range) = self.gets.pop_front() else {
                return;
            };
            match self.data(&range) {
                Ok((crcs, data)) => {
                    let head = Reply::Data(crcs).encode(range.id, range.len);
                    self.send(Message::from_iter([Outgoing::Owned(head), data]));
                }
                Err(Refusal::Full { .. }) if self.unsent > 0 => {
                    // Pages on the way to this client will come back and be room.
                    self.gets.push_front(range);
                    return;
                }
                Err(refusal) => self.reply(range.id, &Reply::Refused(refusal)),
            }
        }
    }

    fn reply(&mut self, id: u64, reply: &Reply) {
        self.send(Message::from_iter([Outgoing::Owned(reply.encode(id, 0))]));
    }

    fn send(&mut self, message: Message) {
        self.unsent += 1;
        self.channel.send(0, message);
    }
}
