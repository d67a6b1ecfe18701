//! Every schedule of a channel's owner and its two threads, over a socket in memory that sends
//! what it sends to itself.
//!
//! Seen to fail, each change made by hand and taken back:
//! - no notice of an event, or of work: `a_failed_channel_gives_everything_back`.
//! - `work` wakes one of the two threads: `a_send_finds_its_thread`.
//! - `reap` that does not look at `woken`: `a_wake_before_the_wait_is_not_lost`.
//! - a thread that ends with work in its queue: `a_failed_channel_gives_everything_back`.
//! - `Drop` that does not shut the socket, or does not say so to the threads:
//!   `a_dropped_channel_ends`.

use super::*;
use crate::net::{Incoming, Outgoing};
use crate::sync::explore;
use smallvec::smallvec;
use std::collections::VecDeque;

/// As long as it takes.
const WAIT: Duration = Duration::MAX;

#[derive(Default)]
struct Loopback {
    state: Mutex<Pipe>,
    news: Condvar,
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    is_shut: bool,
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(Errno::EPIPE as i32)
}

impl Socket for Loopback {
    fn send(&self, message: &Message) -> io::Result<()> {
        let mut pipe = self.state.lock();
        if pipe.is_shut {
            return Err(broken());
        }
        for part in message {
            pipe.bytes.extend(part.bytes());
        }
        self.news.notify_all();
        Ok(())
    }

    fn receive(&self, targets: &mut Targets) -> io::Result<()> {
        let mut pipe = self.state.lock();
        for byte in targets.iter_mut().flat_map(Incoming::bytes_mut) {
            *byte = loop {
                if let Some(byte) = pipe.bytes.pop_front() {
                    break byte;
                }
                if pipe.is_shut {
                    return Err(broken());
                }
                self.news.wait(&mut pipe);
            };
        }
        Ok(())
    }

    fn shut(&self) {
        self.state.lock().is_shut = true;
        self.news.notify_all();
    }
}

fn message(byte: u8) -> Message {
    smallvec![Outgoing::Owned(vec![byte])]
}

fn target() -> Targets {
    smallvec![Incoming::Owned(vec![0])]
}

fn open() -> Served<Loopback> {
    Served::start(Loopback::default()).expect("threads")
}

/// Reaps until `count` events have come.
fn reap(channel: &Served<Loopback>, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        channel.reap(&mut events, WAIT);
    }
    events
}

#[test]
fn what_is_queued_comes_back() {
    explore(|| {
        let channel = open();
        channel.receive(target());
        channel.send(7, message(42));
        let events = reap(&channel, 2);
        drop(channel);
        let (mut sent, mut received) = (0, 0);
        for event in events {
            match event {
                Event::Sent { tag, outcome } => {
                    assert_eq!((tag, outcome), (7, Ok(())));
                    sent += 1;
                }
                Event::Received { targets, outcome } => {
                    assert_eq!((targets[0].bytes(), outcome), (&[42][..], Ok(())));
                    received += 1;
                }
            }
        }
        assert_eq!((sent, received), (1, 1));
    });
}

/// Both threads may be asleep, and only one has something to do.
#[test]
fn a_send_finds_its_thread() {
    explore(|| {
        let channel = open();
        channel.send(1, message(1));
        assert_eq!(reap(&channel, 1).len(), 1);
    });
}

/// The owner shuts it while both directions have work: each piece comes back once, with an error
/// or done.
#[test]
fn a_failed_channel_gives_everything_back() {
    explore(|| {
        let channel = open();
        channel.receive(target());
        channel.send(1, message(1));
        channel.shut();
        channel.receive(target());
        let events = reap(&channel, 3);
        let failed = events.iter().filter(|event| match event {
            Event::Sent { outcome, .. } | Event::Received { outcome, .. } => outcome.is_err(),
        });
        assert!(failed.count() >= 1, "what was queued after the end fails");
        drop(channel);
        assert_eq!(events.len(), 3);
    });
}

#[test]
fn a_wake_before_the_wait_is_not_lost() {
    explore(|| {
        let channel = open();
        let waker = channel.waker();
        let other = loom::thread::spawn(move || waker.wake());
        let mut events = Vec::new();
        channel.reap(&mut events, WAIT);
        other.join().expect("no panic");
        assert!(events.is_empty(), "nothing but the wake has come");
    });
}

/// Dropped with work under way, the channel ends its threads, one of which waits for bytes that
/// never come.
#[test]
fn a_dropped_channel_ends() {
    explore(|| {
        let channel = open();
        channel.receive(target());
        drop(channel);
    });
}
