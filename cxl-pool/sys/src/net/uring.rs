//! A channel on a ring of its own: gathered sends and scattered receives, one of each in flight.
//!
//! Source: io_uring_enter(2) (`IORING_OP_SENDMSG`, `IORING_OP_RECVMSG`), sendmsg(2), recvmsg(2).
//! A stream keeps its order only if one send and one receive are in flight at a time; the socket's
//! own buffers keep the link busy between them. Sends have `MSG_WAITALL`: the kernel goes on until
//! the whole vector is done. A receive covers what is queued and ends with what is there, so the
//! first of several completes without the next; `SO_RCVLOWAT` (socket(7)) keeps a receive of bulk
//! data from waking up for every segment.

use super::{Channel, Event, Message, Targets};
use crate::wake::WakeEvent;
use io_uring::{IoUring, opcode, squeue, types};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Entries of the submission queue: a send, a receive and the wake poll are all there ever is.
const ENTRIES: u32 = 4;
/// Parts that one operation gathers or scatters.
const PARTS: usize = 32;

/// Bytes that a receive of bulk data sleeps for, at most; shorter receives wake up for any byte.
/// Measured: less wakes up for every segment, and each time the sender pays for the interrupt of
/// an idle processor; more brings nothing.
const LOW_WATER_MAX: usize = 128 << 10;
const LOW_WATER_MIN: usize = 4096;

const WAKE_TAG: u64 = 0;
const SEND_TAG: u64 = 1;
const RECEIVE_TAG: u64 = 2;

/// The vector of the operation in flight; the kernel may look at it until its completion.
struct Vector {
    parts: [libc::iovec; PARTS],
    header: libc::msghdr,
}

// SAFETY: the addresses inside are of memory that the channel owns and of the vector itself.
unsafe impl Send for Vector {}

impl Vector {
    fn new() -> Box<Self> {
        // SAFETY: both are plain C structures for which all zeroes is a valid value.
        unsafe { Box::new(std::mem::zeroed()) }
    }

    /// Points the header at the first `count` parts.
    fn finish(&mut self, count: usize) {
        self.header.msg_iov = self.parts.as_mut_ptr();
        self.header.msg_iovlen = count as _;
    }
}

/// One direction: what is queued, and how much of its front is done.
struct Lane<T> {
    queue: VecDeque<T>,
    /// Bytes of the front element that are done.
    at: usize,
    in_flight: bool,
    vector: Box<Vector>,
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            at: 0,
            in_flight: false,
            vector: Vector::new(),
        }
    }

    /// Lays `parts` out, past the first `at` bytes of them; `false` if nothing is left.
    fn lay_out(&mut self, parts: impl Iterator<Item = (*mut u8, usize)>) -> bool {
        let (mut skip, mut count) = (self.at, 0);
        for (base, len) in parts {
            let skipped = skip.min(len);
            skip -= skipped;
            if skipped < len && count < PARTS {
                self.vector.parts[count] = libc::iovec {
                    iov_base: base.wrapping_add(skipped).cast(),
                    iov_len: len - skipped,
                };
                count += 1;
            }
        }
        self.vector.finish(count);
        count > 0
    }
}

/// A queued message with its bytes.
struct Leaving {
    tag: u64,
    message: Message,
    len: usize,
}

/// A queued receive with its bytes.
struct Arriving {
    targets: Targets,
    len: usize,
}

/// See the module.
pub struct UringChannel {
    /// First, so that it is dropped first: it stops using the memory and the socket below.
    ring: IoUring,
    sends: Lane<Leaving>,
    receives: Lane<Arriving>,
    wake: Arc<WakeEvent>,
    wake_armed: bool,
    woken: bool,
    /// Bytes that the socket wakes up for.
    low_water: usize,
    /// Why the stream can no longer be used.
    failed: Option<Errno>,
    stream: TcpStream,
}

/// A ring for a channel. The host may allow none, or this user no more memory for them.
pub fn open_ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_coop_taskrun()
        .build(ENTRIES)
        .or_else(|_| IoUring::new(ENTRIES))
}

impl UringChannel {
    pub fn new(ring: IoUring, stream: TcpStream) -> io::Result<Self> {
        Ok(Self {
            ring,
            sends: Lane::new(),
            receives: Lane::new(),
            wake: WakeEvent::new()?,
            wake_armed: false,
            woken: false,
            low_water: 1,
            failed: None,
            stream,
        })
    }

    /// Queues an entry; there is always room, since each tag is in flight once at most.
    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: vectors, parts and the event outlive their operations: they are fields of the
        // channel or owned by its queues, which keep them until the completion, and `drop` drains
        // the ring.
        unsafe { self.ring.submission().push(entry) }.expect("room for one of each operation");
    }

    /// Puts the next send and the next receive into the ring, where none is in flight.
    fn start(&mut self) {
        if !self.wake_armed {
            self.wake_armed = true;
            let fd = types::Fd(self.wake.raw_fd());
            let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
            self.push(&poll.user_data(WAKE_TAG));
        }
        if self.failed.is_some() {
            return;
        }
        self.start_send();
        self.start_receive();
    }

    fn start_send(&mut self) {
        let lane = &mut self.sends;
        if lane.in_flight || lane.queue.is_empty() {
            return;
        }
        let queue = std::mem::take(&mut lane.queue);
        let parts = queue.iter().flat_map(|send| &send.message).map(|part| {
            let bytes = part.bytes();
            (bytes.as_ptr().cast_mut(), bytes.len())
        });
        let some = lane.lay_out(parts.take(PARTS));
        lane.queue = queue;
        assert!(some, "a message has bytes");
        lane.in_flight = true;
        let flags = (libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32;
        let fd = types::Fd(self.stream.as_raw_fd());
        let entry = opcode::SendMsg::new(fd, &raw const lane.vector.header).flags(flags);
        self.push(&entry.build().user_data(SEND_TAG));
    }

    fn start_receive(&mut self) {
        let lane = &mut self.receives;
        if lane.in_flight || lane.queue.is_empty() {
            return;
        }
        let due = lane.queue[0].len - lane.at;
        let mut queue = std::mem::take(&mut lane.queue);
        let targets = queue.iter_mut().flat_map(|one| &mut one.targets);
        let parts = targets.map(|target| {
            let bytes = target.bytes_mut();
            (bytes.as_mut_ptr(), bytes.len())
        });
        let some = lane.lay_out(parts.take(PARTS));
        lane.queue = queue;
        assert!(some, "a receive has bytes");
        lane.in_flight = true;
        self.wait_for(due.min(LOW_WATER_MAX));
        let fd = types::Fd(self.stream.as_raw_fd());
        let entry = opcode::RecvMsg::new(fd, &raw mut self.receives.vector.header);
        self.push(&entry.build().user_data(RECEIVE_TAG));
    }

    /// Tells the socket how many bytes are worth waking up for. Never more than are due.
    fn wait_for(&mut self, low_water: usize) {
        let low_water = if low_water < LOW_WATER_MIN {
            1
        } else {
            low_water
        };
        if self.low_water != low_water
            && super::socket::set_low_water(&self.stream, low_water).is_ok()
        {
            self.low_water = low_water;
        }
    }

    /// Takes completions; events of what is whole now are appended.
    fn collect(&mut self, events: &mut Vec<Event>) {
        let mut results = [None; 2];
        for cqe in self.ring.completion() {
            match cqe.user_data() {
                WAKE_TAG => {
                    self.wake.clear();
                    (self.wake_armed, self.woken) = (false, true);
                }
                SEND_TAG => results[0] = Some(cqe.result()),
                _ => results[1] = Some(cqe.result()),
            }
        }
        let [sent, received] = results;
        if let Some(code) = sent {
            self.sends.in_flight = false;
            match self.count(code) {
                Some(bytes) => self.sent(bytes, events),
                None => self.sends.at = 0,
            }
        }
        if let Some(code) = received {
            self.receives.in_flight = false;
            match self.count(code) {
                Some(bytes) => self.received(bytes, events),
                None => self.receives.at = 0,
            }
        }
        if self.failed.is_some() {
            self.give_back(events);
        }
    }

    /// Bytes of a completion; a failure shuts the channel.
    fn count(&mut self, code: i32) -> Option<usize> {
        let errno = match code {
            0 => Errno::ECONNRESET,
            code if code > 0 => return Some(code as usize),
            code => Errno::from_raw(-code),
        };
        if matches!(errno, Errno::EINTR | Errno::EAGAIN) {
            return Some(0);
        }
        self.fail(errno);
        None
    }

    fn fail(&mut self, errno: Errno) {
        self.failed.get_or_insert(errno);
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn sent(&mut self, bytes: usize, events: &mut Vec<Event>) {
        let lane = &mut self.sends;
        lane.at += bytes;
        while lane.queue.front().is_some_and(|front| front.len <= lane.at) {
            let front = lane.queue.pop_front().expect("looked at just now");
            lane.at -= front.len;
            let (tag, outcome) = (front.tag, Ok(()));
            drop(front);
            events.push(Event::Sent { tag, outcome });
        }
    }

    fn received(&mut self, bytes: usize, events: &mut Vec<Event>) {
        let lane = &mut self.receives;
        lane.at += bytes;
        while lane.queue.front().is_some_and(|front| front.len <= lane.at) {
            let front = lane.queue.pop_front().expect("looked at just now");
            lane.at -= front.len;
            let (targets, outcome) = (front.targets, Ok(()));
            events.push(Event::Received { targets, outcome });
        }
    }

    /// Gives back everything that no operation uses any more.
    fn give_back(&mut self, events: &mut Vec<Event>) {
        let errno = self.failed.unwrap_or(Errno::ECONNRESET);
        if !self.sends.in_flight {
            for send in self.sends.queue.drain(..) {
                let (tag, outcome) = (send.tag, Err(errno));
                drop(send);
                events.push(Event::Sent { tag, outcome });
            }
        }
        if !self.receives.in_flight {
            for receive in self.receives.queue.drain(..) {
                let (targets, outcome) = (receive.targets, Err(errno));
                events.push(Event::Received { targets, outcome });
            }
        }
    }

    /// Enters the kernel: hands over what is queued and waits for one completion at most `wait`.
    fn enter(&mut self, wait: Duration) {
        let result = if wait.is_zero() {
            if self.ring.submission().is_empty() {
                return;
            }
            self.ring.submit()
        } else {
            let time = types::Timespec::from(wait);
            let args = types::SubmitArgs::new().timespec(&time);
            self.ring.submitter().submit_with_args(1, &args)
        };
        if let Err(error) = result {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            if !matches!(
                errno,
                libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN
            ) {
                self.fail(Errno::from_raw(errno));
            }
        }
    }
}

impl Channel for UringChannel {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn send(&mut self, tag: u64, message: Message) {
        let len = message.iter().map(|part| part.bytes().len()).sum();
        self.sends.queue.push_back(Leaving { tag, message, len });
    }

    fn receive(&mut self, targets: Targets) {
        let len = targets.iter().map(|target| target.bytes().len()).sum();
        self.receives.queue.push_back(Arriving { targets, len });
    }

    fn flush(&mut self) {
        self.start();
        self.enter(Duration::ZERO);
    }

    /// One entry into the kernel as a rule: it hands over what is queued and waits. What the
    /// caller queues next starts with the next call, or with `flush`.
    fn reap(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let before = events.len();
        self.collect(events);
        self.start();
        let is_news = events.len() > before || self.woken;
        self.enter(if is_news { Duration::ZERO } else { wait });
        self.collect(events);
        self.woken = false;
    }

    fn shut(&mut self) {
        self.fail(Errno::ECONNRESET);
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.wake))
    }
}

impl Drop for UringChannel {
    /// Drains the ring: the kernel may use a vector and its parts until the completion has come.
    fn drop(&mut self) {
        self.fail(Errno::ECONNRESET);
        let mut events = Vec::new();
        while self.sends.in_flight || self.receives.in_flight {
            let time = types::Timespec::from(Duration::from_millis(100));
            let args = types::SubmitArgs::new().timespec(&time);
            if let Err(error) = self.ring.submitter().submit_with_args(1, &args) {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                if !matches!(
                    errno,
                    libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN
                ) {
                    // Unable to wait for completions: give the memory up rather than reuse it.
                    std::mem::forget(std::mem::take(&mut self.sends.queue));
                    std::mem::forget(std::mem::take(&mut self.receives.queue));
                    std::mem::forget(std::mem::replace(&mut self.sends.vector, Vector::new()));
                    std::mem::forget(std::mem::replace(&mut self.receives.vector, Vector::new()));
                    return;
                }
            }
            self.collect(&mut events);
        }
    }
}
