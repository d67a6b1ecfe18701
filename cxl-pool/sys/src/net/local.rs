//! A channel between two processes of this host, over a stream socket of the kernel's own.
//!
//! Objects leave without being copied: their pages go through a pipe into the socket, and the
//! receiver copies them once, straight into its extent. Over TCP on the same host the sender copies
//! too, and pays for segments: half of the processor time of a byte, measured.
//!
//! Life of an object on its way:
//! 1. Its pages are in the pipe, then in the socket; nobody writes them, and the message pins them.
//! 2. The receiver has read them: the socket counts what is unread (`SIOCOUTQ`), with overhead, so
//!    what was sent before that many bytes has been read. The message is given back.
//! 3. A channel that ends before hands the pins over as a [`Rest`].
//!
//! Source: unix(7), splice(2), vmsplice(2), `unix_outq_len` of Linux `net/unix/af_unix.c`.

use super::{Channel, Event, Message, Outgoing, Targets, door};
use crate::wake::WakeEvent;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, vmsplice};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, recvmsg, send, setsockopt, sockopt};
use nix::sys::time::{TimeSpec, TimeValLike};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// What it is called in reports.
pub const NAME: &str = "local socket";

/// Bytes that the socket may hold unread, where the host allows as much: a sender sleeps until
/// three quarters of them are read.
const UNREAD_MAX: usize = 4 << 20;
/// Bytes of pages that the pipe takes at a time, where the host allows as much.
const PIPE_BYTES: i32 = 256 << 10;
/// Parts below this are copied; a page of its own for each would cost more.
const SPLICE_MIN: usize = 64 << 10;
/// Parts that one receive scatters over.
const PARTS: usize = 8;
/// Shortest and longest time between two looks at what is unread, when nothing else is waited for.
const LOOK_FIRST: Duration = Duration::from_micros(100);
const LOOK_MOST: Duration = Duration::from_millis(20);

/// A message that waits, or is in parts with the kernel.
struct Leaving {
    tag: u64,
    message: Message,
    len: usize,
    /// Pages of it went to the socket as they are.
    is_spliced: bool,
}

/// A message that is with the kernel whole, and unread.
struct Unread {
    /// Bytes of the stream up to its end.
    end: u64,
    tag: u64,
    message: Message,
}

struct Arriving {
    targets: Targets,
    len: usize,
}

/// A pipe through which pages go to the socket.
struct Pipe {
    entrance: OwnedFd,
    exit: OwnedFd,
    /// Bytes in it, the next of the first message.
    held: usize,
}

impl Pipe {
    fn new() -> nix::Result<Self> {
        let (exit, entrance) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Beyond what a user may have, it stays as small as it is.
        let _ = fcntl(&entrance, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        Ok(Self {
            entrance,
            exit,
            held: 0,
        })
    }
}

/// What a channel that has ended leaves with the kernel: pages that the other end can still read.
pub struct Rest {
    stream: Arc<UnixStream>,
    pinned: Vec<Message>,
}

impl Rest {
    /// The other end has read all of it, or is gone, so that the pages may be written again.
    pub fn is_read(&self) -> bool {
        unread_bytes(&self.stream) == Some(0)
    }
}

/// See the module.
pub struct LocalChannel {
    stream: Arc<UnixStream>,
    /// `None` where pages cannot be spliced, or are not lent; everything is copied then.
    pipe: Option<Pipe>,
    sends: VecDeque<Leaving>,
    /// Bytes of the first of them that are with the kernel.
    at: usize,
    /// The socket takes no more for now.
    is_full: bool,
    unread: VecDeque<Unread>,
    /// Bytes that the socket was given.
    sent: u64,
    look: Duration,
    /// Messages that came to nothing, with pages that the other end can still read.
    pinned: Vec<Message>,
    receives: VecDeque<Arriving>,
    got: usize,
    wake: Arc<WakeEvent>,
    events: Vec<Event>,
    failed: Option<Errno>,
}

impl LocalChannel {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        if setsockopt(&stream, sockopt::SndBufForce, &UNREAD_MAX).is_err() {
            setsockopt(&stream, sockopt::SndBuf, &UNREAD_MAX)?;
        }
        Ok(Self {
            // Pages are lent to who may read them where they stand anyway; others get copies.
            pipe: if door::is_own_user(&stream) {
                Pipe::new().ok()
            } else {
                None
            },
            stream: Arc::new(stream),
            sends: VecDeque::new(),
            at: 0,
            is_full: false,
            unread: VecDeque::new(),
            sent: 0,
            look: LOOK_FIRST,
            pinned: Vec::new(),
            receives: VecDeque::new(),
            got: 0,
            wake: WakeEvent::new()?,
            events: Vec::new(),
            failed: None,
        })
    }

    /// Gives the kernel what it takes now.
    fn send_queued(&mut self) {
        self.take_read();
        self.is_full = false;
        while self.failed.is_none() && !self.is_full {
            let Some(first) = self.sends.front() else {
                return;
            };
            if self.at == first.len {
                self.passed();
                continue;
            }
            match self.send_some() {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.is_full = true,
                Err(errno) => self.fail(errno),
            }
        }
    }

    /// Gives the kernel more of the first message.
    fn send_some(&mut self) -> Result<(), Errno> {
        let first = self.sends.front_mut().expect("the caller looked");
        let mut skip = self.at;
        let part = first.message.iter().find_map(|part| {
            let bytes = part.bytes();
            let rest = bytes.get(skip..).filter(|rest| !rest.is_empty());
            skip = skip.saturating_sub(bytes.len());
            rest.map(|rest| (part, rest))
        });
        let (part, rest) = part.expect("the message is not done");
        let is_long = part.bytes().len() >= SPLICE_MIN;
        let sent = match &mut self.pipe {
            Some(pipe) if is_long && matches!(part, Outgoing::Object(..)) => {
                first.is_spliced = true;
                let sent = splice_some(pipe, &self.stream, rest);
                if matches!(sent, Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL)) {
                    // Not allowed to this process: copied from now on, what is in the pipe too.
                    self.pipe = None;
                    return Ok(());
                }
                sent?
            }
            _ => {
                let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                send(self.stream.as_raw_fd(), rest, flags)?
            }
        };
        self.at += sent;
        self.sent += sent as u64;
        Ok(())
    }

    /// The first message is with the kernel whole.
    fn passed(&mut self) {
        let first = self.sends.pop_front().expect("the caller looked");
        self.at = 0;
        let (tag, message) = (first.tag, first.message);
        if first.is_spliced || !self.unread.is_empty() {
            let end = self.sent;
            self.unread.push_back(Unread { end, tag, message });
            self.look = LOOK_FIRST;
        } else {
            drop(message);
            let outcome = Ok(());
            self.events.push(Event::Sent { tag, outcome });
        }
    }

    /// Gives back messages that the other end has read.
    fn take_read(&mut self) {
        if self.unread.is_empty() {
            return;
        }
        let Some(unread) = unread_bytes(&self.stream) else {
            return;
        };
        let read = self.sent.saturating_sub(unread);
        while self.unread.front().is_some_and(|first| first.end <= read) {
            let Unread { tag, message, .. } = self.unread.pop_front().expect("looked at just now");
            drop(message);
            let outcome = Ok(());
            self.events.push(Event::Sent { tag, outcome });
            self.look = LOOK_FIRST;
        }
    }

    /// Receives what is there, until something is whole: its owner looks at it while it is hot.
    fn receive_queued(&mut self) {
        let before = self.events.len();
        while self.failed.is_none() && self.events.len() == before && !self.receives.is_empty() {
            match self.receive_some() {
                Ok(0) => self.fail(Errno::ECONNRESET),
                Ok(bytes) => self.got += bytes,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(errno) => self.fail(errno),
            }
            while self.receives.front().is_some_and(|one| one.len <= self.got) {
                let one = self.receives.pop_front().expect("looked at just now");
                self.got -= one.len;
                let (targets, outcome) = (one.targets, Ok(()));
                self.events.push(Event::Received { targets, outcome });
            }
        }
    }

    fn receive_some(&mut self) -> Result<usize, Errno> {
        let fd = self.stream.as_raw_fd();
        let mut skip = self.got;
        let targets = self.receives.iter_mut().flat_map(|one| &mut one.targets);
        let parts = targets.filter_map(|target| {
            let bytes = target.bytes_mut();
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            let rest = &mut bytes[skipped..];
            (!rest.is_empty()).then(|| IoSliceMut::new(rest))
        });
        let mut parts: SmallVec<[IoSliceMut<'_>; PARTS]> = parts.take(PARTS).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        recvmsg::<()>(fd, &mut parts, None, flags).map(|received| received.bytes)
    }

    fn fail(&mut self, errno: Errno) {
        self.failed.get_or_insert(errno);
        let _ = self.stream.shutdown(Shutdown::Both);
        // What is in the pipe goes nowhere.
        self.pipe = None;
    }

    /// Everything queued comes back with an error. What the other end can still read stays pinned.
    fn give_back(&mut self) {
        let errno = self.failed.unwrap_or(Errno::ECONNRESET);
        let outcome = Err(errno);
        for Unread { tag, message, .. } in self.unread.drain(..) {
            self.pinned.push(message);
            self.events.push(Event::Sent { tag, outcome });
        }
        for one in self.sends.drain(..) {
            let tag = one.tag;
            if one.is_spliced {
                self.pinned.push(one.message);
            }
            self.events.push(Event::Sent { tag, outcome });
        }
        for one in self.receives.drain(..) {
            let targets = one.targets;
            self.events.push(Event::Received { targets, outcome });
        }
    }

    /// Waits for the socket, a wake, or `wait`.
    fn wait_for_news(&mut self, wait: Duration) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, !self.receives.is_empty());
        flags.set(PollFlags::POLLOUT, self.is_full && !self.sends.is_empty());
        let mut wait = wait;
        if !self.unread.is_empty() && self.failed.is_none() {
            // Nothing tells of the last bytes that are read.
            wait = wait.min(self.look);
            self.look = (self.look * 2).min(LOOK_MOST);
        }
        let wait = TimeSpec::nanoseconds(wait.as_nanos().min(i64::MAX as u128) as i64);
        let mut polled = SmallVec::<[PollFd<'_>; 2]>::new();
        polled.push(PollFd::new(self.wake.fd(), PollFlags::POLLIN));
        if !flags.is_empty() && self.failed.is_none() {
            polled.push(PollFd::new(self.stream.as_fd(), flags));
        }
        // A wait that ends early is a look more.
        let _ = ppoll(&mut polled, Some(wait), None);
        if polled[0].any().unwrap_or(false) {
            self.wake.clear();
        }
    }

    /// Does what can be done without waiting.
    fn go_on(&mut self) {
        self.send_queued();
        self.receive_queued();
        if self.failed.is_some() {
            self.give_back();
        }
    }

    /// Ends it; what its owner was not told is not told any more.
    fn end(&mut self) {
        self.fail(Errno::ECONNRESET);
        self.give_back();
    }
}

/// Moves pages of `rest` into the socket; the pipe holds the first of them from the time before.
fn splice_some(pipe: &mut Pipe, stream: &UnixStream, rest: &[u8]) -> Result<usize, Errno> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    if pipe.held == 0 {
        pipe.held = vmsplice(&pipe.entrance, &[IoSlice::new(rest)], flags)?;
    }
    match splice(&pipe.exit, None, stream, None, pipe.held, flags)? {
        0 => Err(Errno::EIO),
        sent => {
            pipe.held -= sent;
            Ok(sent)
        }
    }
}

/// Bytes that the other end has not read yet, with overhead; `None` if the socket does not say.
fn unread_bytes(stream: &UnixStream) -> Option<u64> {
    let mut unread: libc::c_int = 0;
    // SAFETY: the request writes an int, which outlives the call.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    let unread = u64::try_from(unread).ok();
    unread.filter(|_| result == 0)
}

impl Channel for LocalChannel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn send(&mut self, tag: u64, message: Message) {
        let len = message.iter().map(|part| part.bytes().len()).sum();
        self.sends.push_back(Leaving {
            tag,
            message,
            len,
            is_spliced: false,
        });
    }

    fn receive(&mut self, targets: Targets) {
        let len = targets.iter().map(|target| target.bytes().len()).sum();
        self.receives.push_back(Arriving { targets, len });
    }

    fn flush(&mut self) {
        self.send_queued();
    }

    fn reap(&mut self, events: &mut Vec<Event>, wait: Duration) {
        self.go_on();
        if self.events.is_empty() && !wait.is_zero() {
            self.wait_for_news(wait);
            self.go_on();
        }
        events.append(&mut self.events);
    }

    fn shut(&mut self) {
        self.fail(Errno::ECONNRESET);
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.wake))
    }

    fn into_rest(mut self: Box<Self>) -> Option<Rest> {
        self.end();
        let rest = Rest {
            stream: Arc::clone(&self.stream),
            pinned: std::mem::take(&mut self.pinned),
        };
        let is_some = !rest.pinned.is_empty() && !rest.is_read();
        is_some.then_some(rest)
    }
}

impl Drop for LocalChannel {
    /// Pages that the other end can still read are given up rather than reused.
    fn drop(&mut self) {
        self.end();
        if !self.pinned.is_empty() && unread_bytes(&self.stream) != Some(0) {
            std::mem::forget(std::mem::take(&mut self.pinned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Scratch;
    use crate::mapping::Mapping;
    use crate::net::Incoming;
    use crate::space::Space;

    const LEN: usize = 256 << 10;

    /// A filter of system calls may allow to fill a pipe, and not to empty it.
    #[test]
    fn pages_that_cannot_leave_the_pipe_are_copied() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut near = LocalChannel::new(near).expect("a channel");
        let mut far = LocalChannel::new(far).expect("a channel");
        let pipe = near.pipe.as_mut().expect("a pipe of its own");
        let no_pipe = std::fs::File::open("/dev/null").expect("it is there");
        let _exit = std::mem::replace(&mut pipe.exit, no_pipe.into());

        let space = Space::mapped(Mapping::new(LEN as u64).expect("memory"));
        let mut object = Scratch::new(space.alloc_low(LEN as u64).expect("room"));
        for (at, byte) in object.bytes_mut().iter_mut().enumerate() {
            *byte = (at / 251) as u8;
        }
        let object = Arc::new(object);
        near.send(
            0,
            Message::from_iter([Outgoing::Object(Arc::clone(&object), 0..LEN)]),
        );
        far.receive(Targets::from_iter([Incoming::Owned(vec![0; LEN])]));
        let mut events = Vec::new();
        for _ in 0..1000 {
            near.reap(&mut Vec::new(), Duration::ZERO);
            far.reap(&mut events, Duration::from_millis(10));
            if !events.is_empty() {
                break;
            }
        }
        assert!(near.pipe.is_none());
        let Some(Event::Received { targets, outcome }) = events.pop() else {
            unreachable!("only a receive was queued");
        };
        assert!(outcome.is_ok() && targets[0].bytes() == object.bytes());
    }
}
