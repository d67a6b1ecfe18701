//! The watch over a node: a connection that only asks whether it is there, and tries to find it
//! again when it is not.
//!
//! A node is given up for one of three reasons: its connection was lost and nobody, or another
//! start of it, answers at its address; it was silent for as long as it keeps what it lends; or
//! whoever uses it says so. Until then it is suspect at most. [`Watcher`] is the state machine,
//! [`Watch`] its thread.

use super::dial::{DIAL_FIRST_NS, DIAL_MOST_NS, Dial, Dialled, Returned, Unreached};
use super::health::{Begin, Health, Standing};
use super::pulse::{Pulse, Sign};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::units::Nanos;
use crate::wire::header::{HEADER_BYTES, Header, Op};
use crate::wire::request::Request;
use larder_sys::net::{Channel, Event, Incoming, Message, Outgoing, Targets};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Lease of a node before it has said what it is.
const LEASE_GUESS: Duration = Duration::from_secs(30);

/// Time between two looks for content that a node did not have when it came.
const LOOK_AGAIN_NS: u64 = 1_000_000_000;

/// The connection that asks.
struct Heart {
    channel: Box<dyn Channel>,
    events: Vec<Event>,
    next_id: u64,
}

impl Heart {
    fn ask(&mut self) {
        self.next_id += 1;
        let ping = Outgoing::Owned(Request::Ping.encode(self.next_id, 0));
        self.channel.send(0, Message::from_iter([ping]));
        let answer = Incoming::Owned(vec![0; HEADER_BYTES]);
        self.channel.receive(Targets::from_iter([answer]));
    }

    /// Waits for the answer: whether it came; `None` if the connection is lost.
    fn listen(&mut self, wait: Duration) -> Option<bool> {
        self.channel.reap(&mut self.events, wait);
        let mut heard = false;
        for event in self.events.drain(..) {
            match event {
                Event::Sent { outcome, .. } => outcome.ok()?,
                Event::Received { targets, outcome } => {
                    outcome.ok()?;
                    let bytes = targets[0].bytes().first_chunk::<HEADER_BYTES>()?;
                    let header = Header::decode(bytes).ok()?;
                    heard = header.op == Op::Done && header.id == self.next_id;
                    heard.then_some(())?;
                }
            }
        }
        Some(heard)
    }
}

/// See the module.
pub(crate) struct Watcher {
    dial: Arc<dyn Dial>,
    keeper: Arc<dyn Returned>,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    heart: Option<Heart>,
    pulse: Pulse,
    backoff: Backoff,
    looked_at: Nanos,
    /// Start of the node that is in its life.
    incarnation: Option<u64>,
}

impl Watcher {
    /// A watch over a node that is in its first life as start `incarnation`, or still to come.
    pub(crate) fn new(
        (dial, keeper): (Arc<dyn Dial>, Arc<dyn Returned>),
        (health, clock): (Arc<Health>, Arc<dyn Clock>),
        incarnation: Option<u64>,
    ) -> Self {
        health.set_watched();
        Self {
            looked_at: clock.now(),
            pulse: Pulse::new(clock.now(), LEASE_GUESS),
            backoff: Backoff::new(DIAL_FIRST_NS, DIAL_MOST_NS, dial.seed()),
            dial,
            keeper,
            health,
            clock,
            heart: None,
            incarnation,
        }
    }

    /// One turn of at most `wait`. How long nothing happens from here on that could be waited for:
    /// zero while there is a connection.
    pub(crate) fn step(&mut self, wait: Duration) -> Duration {
        let now = self.clock.now();
        let mut rest = Duration::ZERO;
        if let Some(heart) = self.heart.as_mut() {
            if self.pulse.is_due(now) {
                heart.ask();
                self.pulse.asked(now);
            }
            match heart.listen(wait.min(self.pulse.wait(now))) {
                Some(true) => {
                    self.pulse.heard(self.clock.now());
                    self.health.answers();
                    self.look_again();
                }
                Some(false) => {}
                None => self.lost(),
            }
        } else if self.backoff.wait_ns(now) == 0 {
            self.reach();
        } else {
            let left = Duration::from_nanos(self.backoff.wait_ns(now));
            rest = left.min(wait).min(self.pulse.wait(now));
        }
        if self.health.standing() != Standing::Gone {
            match self.pulse.look(self.clock.now()) {
                Sign::Alive => {}
                Sign::Suspect => self.health.suspect(),
                Sign::Expired => self.end(),
            }
        }
        rest
    }

    /// It waits for what its connection brings.
    pub(crate) const fn has_connection(&self) -> bool {
        self.heart.is_some()
    }

    /// Asks a node that came back once a while for what it did not have then.
    fn look_again(&mut self) {
        let now = self.clock.now();
        if now.since(self.looked_at) > LOOK_AGAIN_NS {
            self.looked_at = now;
            self.keeper.look_again();
        }
    }

    /// The connection is lost. The silence of the node is counted from now on, unless it owes an
    /// answer already; it is dialled at once.
    fn lost(&mut self) {
        self.heart = None;
        let now = self.clock.now();
        if !self.pulse.is_waiting() {
            self.pulse.asked(now);
        }
    }

    fn end(&mut self) {
        self.heart = None;
        self.incarnation = None;
        self.health.end();
    }

    fn reach(&mut self) {
        let dialled = self.dial.dial();
        let is_tried = match dialled {
            Ok(dialled) if self.incarnation == Some(dialled.incarnation) => {
                self.connected(dialled);
                self.health.answers();
                true
            }
            Ok(dialled) => {
                if self.health.standing() != Standing::Gone {
                    self.end();
                }
                let incarnation = dialled.incarnation;
                let free = self.keeper.returned(incarnation);
                if let Some(free) = free {
                    self.connected(dialled);
                    self.incarnation = Some(incarnation);
                    self.health.begin(free, Begin::Later);
                }
                free.is_some()
            }
            Err(Unreached::Refused) => {
                self.end();
                false
            }
            Err(Unreached::Silent) => false,
        };
        if is_tried {
            self.backoff.succeeded();
        } else {
            self.backoff.failed(self.clock.now());
        }
    }

    fn connected(&mut self, dialled: Dialled) {
        let now = self.clock.now();
        self.pulse = Pulse::new(now, dialled.lease);
        self.heart = Some(Heart {
            channel: dialled.channel,
            events: Vec::new(),
            next_id: 0,
        });
    }
}

/// A thread that watches a node until it is dropped.
#[derive(Debug)]
pub struct Watch {
    stops: Arc<AtomicBool>,
    thread: Thread,
}

/// Longest turn of the thread, so that it ends soon when it is told to.
const TURN: Duration = Duration::from_millis(100);

impl Watch {
    pub(super) fn start(mut watcher: Watcher, address: &str) -> std::io::Result<Self> {
        let stops = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stops);
        let handle = std::thread::Builder::new()
            .name(format!("larder-watch-{address}"))
            .stack_size(STACK)
            .spawn(move || {
                while !told.load(Ordering::Acquire) {
                    let rest = watcher.step(TURN);
                    if !rest.is_zero() {
                        std::thread::park_timeout(rest);
                    }
                }
            })?;
        Ok(Self {
            stops,
            thread: handle.thread().clone(),
        })
    }
}

/// Stack of the thread, in bytes.
const STACK: usize = 256 << 10;

impl Drop for Watch {
    /// The thread ends by itself, however long it waits for a connection now.
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
