//! One simulated connection and its two ends.

use super::faults::{Fault, Faults};
use super::random::SplitMix;
use super::timeline::{Seat, Timeline, Waits};
use crate::clock::Clock;
use crate::units::{BytesPerSec, Nanos};
use larder_sys::io::Errno;
use larder_sys::net::{Channel, Event, Message, Targets};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Which end is the client's; the other is the node's.
pub(super) const CLIENT: usize = 0;
/// Bytes on the way in one direction, beyond which a sender waits.
const BUFFER: usize = 256 << 10;
/// First time after which a lost segment is sent again; it doubles.
const RESEND_NS: u64 = 200_000_000;
/// Time without a word from the other host after which a connection is given up.
const GIVE_UP_NS: u64 = 20_000_000_000;
/// Never.
const NEVER: u64 = u64::MAX;

/// Time and speed of a link between two hosts.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    pub latency_ns: u64,
    pub bandwidth: BytesPerSec,
}

/// Bytes on their way; none are the end of the stream.
struct Segment {
    at: u64,
    bytes: Vec<u8>,
    taken: usize,
}

struct End {
    seat: Seat,
    outbox: VecDeque<(u64, Message)>,
    /// On the way to this end.
    inbound: VecDeque<Segment>,
    inbound_bytes: usize,
    /// When the link to this end is free again.
    free_at: u64,
    /// Receives, and bytes that each has got.
    receives: VecDeque<(Targets, usize)>,
    events: Vec<Event>,
    is_lost: bool,
    /// It takes and says nothing until then.
    paused_until: u64,
}

/// See the module.
pub(super) struct Wire {
    ends: [End; 2],
    faults: Faults,
    wiring: Wiring,
    random: SplitMix,
    /// Nothing passes; given up at this time.
    parted_until: Option<u64>,
}

impl Wire {
    pub(super) fn new(
        timeline: &Timeline,
        faults: Faults,
        wiring: Wiring,
        random: SplitMix,
    ) -> Self {
        let end = || End {
            seat: timeline.seat(),
            outbox: VecDeque::new(),
            inbound: VecDeque::new(),
            inbound_bytes: 0,
            free_at: 0,
            receives: VecDeque::new(),
            events: Vec::new(),
            is_lost: false,
            paused_until: 0,
        };
        Self {
            ends: [end(), end()],
            faults,
            wiring,
            random,
            parted_until: None,
        }
    }

    pub(super) fn part(&mut self, now: u64) {
        let until = now + GIVE_UP_NS;
        self.parted_until = Some(until);
        for end in &self.ends {
            end.seat.wake_at(Nanos::new(until));
        }
    }

    pub(super) fn heal(&mut self, now: u64) {
        self.parted_until = None;
        for end in &mut self.ends {
            for segment in &mut end.inbound {
                segment.at = segment.at.max(now + RESEND_NS);
            }
            end.seat.wake_at(Nanos::new(now));
        }
    }

    pub(super) fn reset(&mut self) {
        self.lose(0);
        self.lose(1);
    }

    pub(super) fn pause(&mut self, end: usize, until: u64) {
        self.ends[end].paused_until = until;
    }

    /// The connection is over for an end.
    pub(super) fn lose(&mut self, end: usize) {
        let end = &mut self.ends[end];
        end.is_lost = true;
        end.inbound.clear();
        end.inbound_bytes = 0;
        for (tag, message) in end.outbox.drain(..) {
            drop(message);
            let outcome = Err(Errno::ECONNRESET);
            end.events.push(Event::Sent { tag, outcome });
        }
        for (targets, _) in end.receives.drain(..) {
            let outcome = Err(Errno::ECONNRESET);
            end.events.push(Event::Received { targets, outcome });
        }
        end.seat.wake_at(end.seat.now());
    }

    /// An end says that it is done; the other hears of it behind what was sent.
    fn shut(&mut self, end: usize, now: u64) {
        if !self.ends[end].is_lost {
            self.lose(end);
            self.send_bytes(1 - end, Vec::new(), now);
        }
    }

    /// Sends bytes on their way to end `to`.
    fn send_bytes(&mut self, to: usize, bytes: Vec<u8>, now: u64) {
        let carried = self.wiring.bandwidth.seconds_for(bytes.len() as u64) * 1e9;
        let mut late = 0;
        let mut resend = RESEND_NS;
        while self.faults.draw(Fault::Loss, &mut self.random) {
            self.faults.count(Fault::Loss);
            late += resend;
            resend = (2 * resend).min(GIVE_UP_NS);
        }
        let end = &mut self.ends[to];
        if end.is_lost {
            return;
        }
        end.free_at = end.free_at.max(now) + carried as u64;
        let before = end.inbound.back().map_or(0, |segment| segment.at);
        let at = (end.free_at + self.wiring.latency_ns + late).max(before);
        end.inbound_bytes += bytes.len();
        end.inbound.push_back(Segment {
            at,
            bytes,
            taken: 0,
        });
        end.seat.wake_at(Nanos::new(at));
    }

    /// Hands messages of an end to the network while there is room in it.
    fn pump(&mut self, from: usize, now: u64) {
        if self.ends[from].paused_until > now {
            return;
        }
        let to = 1 - from;
        if self.ends[to].is_lost
            && self.parted_until.is_none()
            && !self.ends[from].outbox.is_empty()
        {
            // The other host knows no such connection any more.
            return self.lose(from);
        }
        while self.ends[to].inbound_bytes < BUFFER {
            let Some((tag, message)) = self.ends[from].outbox.pop_front() else {
                return;
            };
            let mut bytes: Vec<u8> = Vec::new();
            for part in &message {
                bytes.extend_from_slice(part.bytes());
            }
            drop(message);
            if self.faults.draw(Fault::Flip, &mut self.random) {
                self.faults.count(Fault::Flip);
                let bit = self.random.next_u64();
                let at = (bit >> 3) as usize % bytes.len();
                bytes[at] ^= 1 << (bit & 7);
            }
            if from != CLIENT && self.faults.draw(Fault::Duplicate, &mut self.random) {
                self.faults.count(Fault::Duplicate);
                self.send_bytes(to, bytes.clone(), now);
            }
            self.send_bytes(to, bytes, now);
            let outcome = Ok(());
            self.ends[from].events.push(Event::Sent { tag, outcome });
        }
    }

    /// Hands an end what has come for it.
    fn deliver(&mut self, to: usize, now: u64) {
        if self.parted_until.is_some() || self.ends[to].paused_until > now {
            return;
        }
        let mut is_over = false;
        let end = &mut self.ends[to];
        while let (Some(segment), Some((targets, got))) =
            (end.inbound.front_mut(), end.receives.front_mut())
        {
            if segment.at > now {
                break;
            }
            is_over = segment.bytes.is_empty();
            if is_over {
                break;
            }
            let taken = fill(targets, *got, &segment.bytes[segment.taken..]);
            (*got, segment.taken) = (*got + taken, segment.taken + taken);
            end.inbound_bytes -= taken;
            if segment.taken == segment.bytes.len() {
                end.inbound.pop_front();
            }
            let wanted: usize = targets.iter().map(|target| target.bytes().len()).sum();
            if *got == wanted {
                let (targets, _) = end.receives.pop_front().expect("looked at above");
                let outcome = Ok(());
                end.events.push(Event::Received { targets, outcome });
            }
        }
        if is_over {
            self.lose(to);
        }
        if !self.ends[1 - to].outbox.is_empty() {
            self.ends[1 - to].seat.wake_at(Nanos::new(now));
        }
    }

    /// When something happens at an end without anybody waking it.
    fn next_at(&self, of: usize) -> u64 {
        let end = &self.ends[of];
        let arrives = match end.inbound.front() {
            Some(segment) if !end.receives.is_empty() && self.parted_until.is_none() => segment.at,
            _ => NEVER,
        };
        let arrives = arrives.max(end.paused_until);
        let given_up = self.parted_until.filter(|_| !end.is_lost);
        arrives.min(given_up.unwrap_or(NEVER))
    }
}

/// Fills targets from their byte `from` on; how many bytes went in.
fn fill(targets: &mut Targets, from: usize, bytes: &[u8]) -> usize {
    let (mut skip, mut taken) = (from, 0);
    for target in targets {
        let target = target.bytes_mut();
        if skip >= target.len() {
            skip -= target.len();
            continue;
        }
        let target = &mut target[skip..];
        skip = 0;
        let len = target.len().min(bytes.len() - taken);
        target[..len].copy_from_slice(&bytes[taken..taken + len]);
        taken += len;
    }
    taken
}

/// One end of a connection.
pub struct SimChannel {
    wire: Arc<Mutex<Wire>>,
    end: usize,
    seat: Seat,
}

impl SimChannel {
    /// The client's end and the node's.
    pub(super) fn pair(wire: &Arc<Mutex<Wire>>) -> (Self, Self) {
        let end = |end: usize| Self {
            seat: wire.lock().ends[end].seat.clone(),
            wire: Arc::clone(wire),
            end,
        };
        (end(CLIENT), end(1 - CLIENT))
    }
}

impl Channel for SimChannel {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn send(&mut self, tag: u64, message: Message) {
        let mut wire = self.wire.lock();
        let end = &mut wire.ends[self.end];
        if end.is_lost {
            drop(message);
            let outcome = Err(Errno::ENOTCONN);
            end.events.push(Event::Sent { tag, outcome });
        } else {
            end.outbox.push_back((tag, message));
        }
    }

    fn receive(&mut self, targets: Targets) {
        let mut wire = self.wire.lock();
        let end = &mut wire.ends[self.end];
        if end.is_lost {
            let outcome = Err(Errno::ENOTCONN);
            end.events.push(Event::Received { targets, outcome });
        } else {
            end.receives.push_back((targets, 0));
        }
    }

    fn flush(&mut self) {
        let now = self.seat.now();
        let mut wire = self.wire.lock();
        wire.pump(self.end, now.get());
        if !wire.ends[self.end].events.is_empty() {
            self.seat.wake_at(now);
        }
    }

    fn reap(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let now = self.seat.now().get();
        let mut wire = self.wire.lock();
        if wire.parted_until.is_some_and(|until| until <= now) && !wire.ends[self.end].is_lost {
            wire.lose(self.end);
        }
        wire.pump(self.end, now);
        wire.deliver(self.end, now);
        let at = if wire.ends[self.end].events.is_empty() {
            wire.next_at(self.end).min(now + wait.as_nanos() as u64)
        } else {
            events.append(&mut wire.ends[self.end].events);
            now
        };
        drop(wire);
        self.seat.wait_until(Nanos::new(at));
    }

    fn shut(&mut self) {
        let now = self.seat.now().get();
        self.wire.lock().shut(self.end, now);
    }

    fn waker(&self) -> Waker {
        Waits::waker(&self.seat)
    }
}

impl Drop for SimChannel {
    fn drop(&mut self) {
        let now = self.seat.now().get();
        self.wire.lock().shut(self.end, now);
    }
}
