//! Connections whose bytes go straight between a socket and memory that larder owns.
//!
//! A [`Channel`] is one stream with two queues. What is sent and what is received is owned by the
//! channel from `send` or `receive` until the event that gives it back; nothing else ends its
//! use, so memory is never reused while the kernel may still touch it.
//!
//! Life of a failing channel:
//! 1. An operation fails, the peer closes, or the owner calls `shut`.
//! 2. The socket is shut in both directions, and operations in flight complete.
//! 3. Everything queued comes back in events with an error; whatever is queued later does too.

pub mod door;
pub mod handover;
pub mod socket;

pub mod local;

pub mod threads;
pub mod uring;

use crate::lease::{FillPiece, ReadPiece, Scratch};
use local::{LocalChannel, Rest};
use nix::errno::Errno;
use smallvec::SmallVec;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Bytes to send.
#[derive(Debug)]
pub enum Outgoing {
    Owned(Vec<u8>),
    /// Part of an object that nobody writes any more; the clone of the handle pins it.
    Object(Arc<Scratch>, Range<usize>),
    Piece(Arc<ReadPiece>, Range<usize>),
}

impl Outgoing {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Object(object, range) => &object.bytes()[range.clone()],
            Self::Piece(piece, range) => &piece.bytes()[range.clone()],
        }
    }
}

/// Where received bytes go; every byte of it is received.
#[derive(Debug)]
pub enum Incoming {
    Owned(Vec<u8>),
    /// Part of an object that only its owner can reach.
    Grant(Scratch, Range<usize>),
    Piece(FillPiece, Range<usize>),
}

impl Incoming {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Grant(grant, range) => &grant.bytes()[range.clone()],
            Self::Piece(piece, range) => &piece.bytes()[range.clone()],
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Grant(grant, range) => &mut grant.bytes_mut()[range.clone()],
            Self::Piece(piece, range) => &mut piece.bytes_mut()[range.clone()],
        }
    }
}

/// Parts that are sent one after the other.
pub type Message = SmallVec<[Outgoing; 2]>;

/// Parts that are received one after the other.
pub type Targets = SmallVec<[Incoming; 2]>;

/// What became of something queued.
#[derive(Debug)]
pub enum Event {
    /// The message with this tag is in the hands of the kernel, or never will be; its parts have
    /// been dropped.
    Sent {
        tag: u64,
        outcome: Result<(), Errno>,
    },
    Received {
        targets: Targets,
        outcome: Result<(), Errno>,
    },
}

/// See the module. One thread owns it; any thread may wake it.
pub trait Channel: Send {
    /// What stands behind, for the report.
    fn name(&self) -> &'static str;

    /// Queues a message behind those before it.
    fn send(&mut self, tag: u64, message: Message);

    /// Queues a receive behind those before it.
    fn receive(&mut self, targets: Targets);

    /// Starts what is queued, without waiting.
    fn flush(&mut self);

    /// Starts what is queued and appends events. With none at hand, waits for one, for a wake or
    /// for `wait`, whichever is first.
    fn reap(&mut self, events: &mut Vec<Event>, wait: Duration);

    /// Ends both directions; see the life of a failing channel.
    fn shut(&mut self);

    /// Ends a wait of `reap` early, from any thread.
    fn waker(&self) -> Waker;

    /// Ends the channel. What the other end can still read of pages that were lent to it, if
    /// there is any; who drops it before that is read gives the memory up.
    fn into_rest(self: Box<Self>) -> Option<Rest> {
        None
    }
}

/// Which implementation a channel gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Within a host a local socket; io_uring where the host allows it, else threads.
    Best,
    /// As the best, over TCP even within a host.
    Tcp,
    /// A reader and a writer thread per channel.
    Threads,
}

/// The two kinds of streams that a channel is made of.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Local(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Local(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Local(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The fastest channel over `stream` that `transport` and this host allow.
pub fn open_channel(stream: Stream, transport: Transport) -> io::Result<Box<dyn Channel>> {
    let stream = match stream {
        Stream::Tcp(stream) => stream,
        Stream::Local(stream) => return Ok(Box::new(LocalChannel::new(stream)?)),
    };
    if transport != Transport::Threads
        && let Ok(ring) = uring::open_ring()
    {
        return Ok(Box::new(uring::UringChannel::new(ring, stream)?));
    }
    Ok(Box::new(threads::ThreadChannel::new(stream)?))
}

#[cfg(test)]
mod tests;
