//! A driver of the mover over a connection to a node.
//!
//! Operations are cut into frames of [`FRAME`] bytes: the sender fills the socket with the next
//! while the receiver copies the last. Reads of one flush share get requests. A piece belongs to
//! its job, or to the channel while bytes move; when the connection is lost, jobs complete only
//! after the channel has given everything back, so a piece comes home when nothing writes it.

mod job;
mod line;

mod reads;
mod writes;

use super::dial::Dial;
use super::health::Health;
use super::table::Objects;
use crate::clock::Clock;
use crate::units::Nanos;
use crate::wire::header::{HEADER_BYTES, Header, Op as WireOp};
use crate::wire::reply::Reply;
use crate::wire::request::{Check, GetRange, Request};
use job::{Job, errno_of};
use larder_sys::io::{Done, Driver, Errno, Op, Verb};
use larder_sys::net::{Channel, Event, Incoming, Message, Outgoing, Targets};
use line::Line;
pub(crate) use line::Role;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Operations in flight.
const DEPTH: usize = 64;
/// Bytes of one data frame.
pub(super) const FRAME: usize = 512 << 10;
/// Silence after which a connection that lends says that it is there.
const PING_NS: u64 = 5_000_000_000;

/// What a driver is made of.
pub(super) struct Parts {
    /// The first connection; without one the node has not been reached yet.
    pub(super) channel: Option<Box<dyn Channel>>,
    pub(super) role: Role,
    pub(super) objects: Objects,
    pub(super) check: Check,
    /// Bytes asked for and not received, above which the next range waits.
    pub(super) window: usize,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) health: Arc<Health>,
    pub(super) clock: Arc<dyn Clock>,
}

/// See the module.
pub(super) struct RemoteDriver {
    line: Line,
    objects: Objects,
    check: Check,
    window: usize,
    /// Open jobs, oldest first.
    jobs: BTreeMap<u64, Job>,
    next_id: u64,
    /// Ranges that have not been asked for.
    ranges: VecDeque<GetRange>,
    /// Bytes asked for and not received.
    asked: usize,
    /// Writes that wait for the grant of the object that starts there.
    waiting: HashMap<u64, Vec<u64>>,
    /// Operations in which the node has no part.
    at_once: Vec<Done>,
    /// The header of the frame whose rest is received.
    header: Option<Header>,
    /// A receive of the next header is queued, behind the rest of the last frame.
    header_posted: bool,
    /// Receives in the channel.
    posted: usize,
    /// Reads that have come whole.
    arrived: Vec<u64>,
    unsent: usize,
    events: Vec<Event>,
    clock: Arc<dyn Clock>,
    spoke_at: Nanos,
    notes: Vec<String>,
}

impl RemoteDriver {
    pub(super) fn new(parts: Parts) -> Self {
        let spoke_at = parts.clock.now();
        let around = (parts.dial, parts.health, Arc::clone(&parts.clock));
        Self {
            line: Line::new(parts.channel, parts.role, around),
            objects: parts.objects,
            check: parts.check,
            window: parts.window,
            jobs: BTreeMap::new(),
            next_id: 1,
            ranges: VecDeque::new(),
            asked: 0,
            waiting: HashMap::new(),
            at_once: Vec::new(),
            header: None,
            header_posted: false,
            posted: 0,
            arrived: Vec::new(),
            unsent: 0,
            events: Vec::new(),
            clock: parts.clock,
            spoke_at,
            notes: Vec::new(),
        }
    }

    fn add(&mut self, job: Job) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.jobs.insert(id, job);
        id
    }

    fn finish(&mut self, tag: u64, verb: Verb, outcome: Result<usize, Errno>) {
        self.at_once.push(Done { tag, verb, outcome });
    }

    fn ask(&mut self, id: u64, request: &Request) {
        let message = Message::from_iter([Outgoing::Owned(request.encode(id, 0))]);
        self.send(id, message);
    }

    fn send(&mut self, tag: u64, message: Message) {
        self.unsent += 1;
        self.spoke_at = self.clock.now();
        self.line.send(tag, message);
    }

    /// Keeps a receive posted: it brings what comes next, or the news that the node is gone.
    fn receive_header(&mut self) {
        if !self.header_posted && self.line.is_up() {
            self.header_posted = true;
            let target = Incoming::Owned(vec![0; HEADER_BYTES]);
            self.receive(Targets::from_iter([target]));
        }
    }

    fn receive(&mut self, targets: Targets) {
        self.posted += 1;
        self.line.receive(targets);
    }

    fn start_queued(&mut self) {
        if self.line.must_cut(!self.jobs.is_empty()) {
            self.lose();
        }
        if !self.line.is_up() {
            return;
        }
        let silent = self.clock.now().since(self.spoke_at);
        if silent > PING_NS && self.line.role() == Role::Writer {
            self.ask(0, &Request::Ping);
        }
        self.ask_ranges();
        self.receive_header();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Sent { tag, outcome } => {
                self.unsent -= 1;
                if let Some(Job::Write(job)) = self.jobs.get_mut(&tag) {
                    job.unsent -= 1;
                    self.end_write(tag);
                }
                if outcome.is_err() {
                    self.lose();
                }
            }
            Event::Received { targets, outcome } => {
                self.posted -= 1;
                let is_in_step = if outcome.is_ok() {
                    self.received(targets).map(|()| self.receive_header())
                } else {
                    self.take_piece_back(targets);
                    None
                };
                if is_in_step.is_none() {
                    self.lose();
                }
            }
        }
    }

    /// The connection cannot be used any more.
    fn lose(&mut self) {
        if self.line.is_up() && self.line.role() == Role::Writer {
            self.objects.lose();
        }
        self.line.cut();
    }

    /// Why operations fail while the connection is down. What is not there in this life of the node
    /// is lost, however well the node is.
    fn errno(&self, lost: Errno) -> Errno {
        if self.objects.may_dial() {
            self.line.errno(lost)
        } else {
            lost
        }
    }

    /// The connection is up, or has been made anew.
    fn is_reached(&mut self) -> bool {
        if self.line.is_up() {
            return true;
        }
        // What is under way belongs to the connection before.
        let is_wanted = self.jobs.is_empty() && self.objects.may_dial();
        if !is_wanted || !self.line.redial() {
            return false;
        }
        (self.header, self.header_posted) = (None, false);
        (self.posted, self.unsent, self.asked) = (0, 0, 0);
        true
    }

    /// Takes a whole receive; `None` if the node talks nonsense.
    fn received(&mut self, mut targets: Targets) -> Option<()> {
        let Some(header) = self.header.take() else {
            self.header_posted = false;
            let bytes = targets[0].bytes().first_chunk::<HEADER_BYTES>()?;
            let header = Header::decode(bytes).ok()?;
            return self.begin_frame(header);
        };
        let data = match targets.pop()? {
            Incoming::Piece(piece, range) => Some((piece, range)),
            body @ Incoming::Owned(_) => {
                targets.push(body);
                None
            }
            Incoming::Grant(..) => unreachable!("a client posts no grants"),
        };
        let body = targets.first().map_or(&[][..], Incoming::bytes);
        let reply = Reply::decode(&header, body);
        if let Some((piece, _)) = data {
            let Some(Job::Read(job)) = self.jobs.get_mut(&header.id) else {
                unreachable!("the piece came from its job");
            };
            job.piece = Some(piece);
            let Ok(Reply::Data(crcs)) = reply else {
                return None;
            };
            self.part_arrived(header.id, &crcs);
            return Some(());
        }
        self.answered(header.id, &reply.ok()?)
    }

    /// Takes a header: posts the receive of the rest, straight into the piece for data.
    fn begin_frame(&mut self, header: Header) -> Option<()> {
        let mut targets = Targets::new();
        if header.body > 0 {
            targets.push(Incoming::Owned(vec![0; header.body as usize]));
        }
        if header.op == WireOp::Data {
            let Some(Job::Read(job)) = self.jobs.get_mut(&header.id) else {
                return None;
            };
            let part = job.part(job.answered);
            if part.is_empty() || part.len() != header.data as usize {
                return None;
            }
            targets.push(Incoming::Piece(job.piece.take()?, part));
        }
        if targets.is_empty() {
            let reply = Reply::decode(&header, &[]).ok()?;
            return self.answered(header.id, &reply);
        }
        self.header = Some(header);
        self.receive(targets);
        Some(())
    }

    /// After a failed receive the piece goes back to its job.
    fn take_piece_back(&mut self, mut targets: Targets) {
        if let (Some(header), Some(Incoming::Piece(piece, _))) = (self.header, targets.pop())
            && let Some(Job::Read(job)) = self.jobs.get_mut(&header.id)
        {
            job.piece = Some(piece);
        }
    }

    /// Takes an answer without data; `None` if nobody asked for it.
    fn answered(&mut self, id: u64, reply: &Reply) -> Option<()> {
        if id == 0 {
            // A ping, or the last words of a node that sends us away.
            return matches!(reply, Reply::Done).then_some(());
        }
        let error = match reply {
            Reply::Refused(refusal) => Some(errno_of(*refusal)),
            _ => None,
        };
        match self.jobs.get_mut(&id)? {
            Job::Read(job) => {
                // A node without room to read its disk into has some in a moment.
                let error = error.map(|errno| match errno {
                    Errno::ENOSPC => Errno::EAGAIN,
                    errno => errno,
                });
                job.error = job.error.or(error);
                error?;
                self.part_answered(id);
            }
            Job::Write(job) => {
                job.error = job.error.or(error);
                job.unanswered = job.unanswered.checked_sub(1)?;
                self.end_write(id);
            }
            Job::Grant { start } => {
                let start = *start;
                self.jobs.remove(&id);
                self.granted(start, reply, error);
            }
            Job::Call { .. } => self.called(id, reply, error),
        }
        Some(())
    }

    /// Once the channel has given everything back, nothing that was asked will be answered.
    fn give_up_jobs(&mut self) {
        if self.line.is_up() || self.posted > 0 || self.unsent > 0 || self.jobs.is_empty() {
            return;
        }
        self.ranges.clear();
        self.waiting.clear();
        let errno = self.errno(Errno::ECONNRESET);
        let jobs = std::mem::take(&mut self.jobs);
        for job in jobs.into_values() {
            let (tag, verb) = match job {
                Job::Read(job) => {
                    let piece = job.piece.expect("the channel gave the piece back");
                    (job.tag, Verb::Read(piece))
                }
                Job::Write(job) => {
                    let piece = Arc::into_inner(job.piece);
                    let piece = piece.expect("the channel gave the piece back");
                    (job.tag, Verb::Write(piece))
                }
                Job::Call { tag, verb, .. } => (tag, verb),
                Job::Grant { start } => {
                    self.objects.granted(start, None);
                    continue;
                }
            };
            self.finish(tag, verb, Err(errno));
        }
    }
}

impl Driver for RemoteDriver {
    fn name(&self) -> &'static str {
        self.line.name()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn submit(&mut self, op: Op) -> Result<(), Op> {
        if self.jobs.len() + self.at_once.len() >= DEPTH {
            return Err(op);
        }
        if !self.is_reached() {
            self.finish(op.tag, op.verb, Err(self.errno(Errno::ENOTCONN)));
            return Ok(());
        }
        match op.verb {
            Verb::Read(piece) => {
                let verb = Verb::Free;
                self.start_read(&Op { verb, ..op }, piece);
            }
            Verb::Write(piece) => {
                let verb = Verb::Free;
                self.start_write(&Op { verb, ..op }, piece);
            }
            Verb::Seal(_) | Verb::Free => self.start_call(op),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.start_queued();
        self.line.flush();
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> io::Result<()> {
        self.start_queued();
        let mut wait = if self.at_once.is_empty() {
            wait
        } else {
            Duration::ZERO
        };
        let mut events = std::mem::take(&mut self.events);
        loop {
            self.line.reap(&mut events, wait);
            let is_quiet = events.is_empty();
            events.drain(..).for_each(|event| self.handle(event));
            self.receive_header();
            self.finish_reads();
            self.give_up_jobs();
            if !self.at_once.is_empty() {
                // What has come by now is taken along, without waiting for more.
                wait = Duration::ZERO;
            }
            if is_quiet {
                break;
            }
        }
        self.events = events;
        self.line.flush();
        done.append(&mut self.at_once);
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.line.waker()
    }
}
