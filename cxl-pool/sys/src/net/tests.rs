//! One check for every channel.

use super::socket::{Listener, connect};
use super::*;
use crate::mapping::Mapping;
use crate::space::Space;
use nix::sys::socket::{getsockopt, sockopt};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

const WAIT: Duration = Duration::from_secs(10);
const LEN: usize = 3 << 20;

fn pair(transport: Transport) -> [Box<dyn Channel>; 2] {
    if transport == Transport::Best {
        let (near, far) = UnixStream::pair().expect("a pair");
        return [near, far].map(|stream| {
            let stream = Stream::Local(stream);
            open_channel(stream, transport).expect("open")
        });
    }
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(address).expect("bind");
    let name = listener.address().expect("bound").to_string();
    let near = connect(&name, WAIT).expect("connect");
    let (far, _) = listener.accept().expect("accept");
    [near, far].map(|stream| open_channel(Stream::Tcp(stream), transport).expect("open"))
}

/// A default that paces (BBR) would cost a sender on this host a third of its time.
#[test]
fn a_connection_within_this_host_is_not_paced() {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(address).expect("bind");
    let name = listener.address().expect("bound").to_string();
    let near = connect(&name, WAIT).expect("connect");
    let (far, _) = listener.accept().expect("accept");
    for stream in [near, far] {
        let control = getsockopt(&stream, sockopt::TcpCongestion).expect("its control");
        assert_eq!(control, "reno");
    }
}

fn each(check: impl Fn(Transport)) {
    check(Transport::Threads);
    check(Transport::Best);
    if uring::open_ring().is_ok() {
        check(Transport::Tcp);
    } else {
        println!("skipped: io_uring refused here");
    }
}

fn next(channel: &mut dyn Channel, events: &mut Vec<Event>) -> Event {
    for _ in 0..100 {
        if !events.is_empty() {
            return events.remove(0);
        }
        channel.reap(events, WAIT);
    }
    unreachable!("no event came");
}

fn scratch() -> Scratch {
    let space = Space::mapped(Mapping::new(LEN as u64).expect("memory"));
    Scratch::new(space.alloc_low(LEN as u64).expect("room"))
}

#[test]
fn bytes_go_from_extent_to_extent_in_order() {
    each(|transport| {
        let [mut near, mut far] = pair(transport);
        let mut object = scratch();
        for (at, byte) in object.bytes_mut().iter_mut().enumerate() {
            *byte = (at / 251) as u8;
        }
        let object = Arc::new(object);
        for tag in 0..50 {
            let body = Outgoing::Owned(vec![tag as u8; 3]);
            let data = Outgoing::Object(Arc::clone(&object), tag * 5..LEN - 7);
            near.send(tag as u64, Message::from_iter([body, data]));
        }
        near.flush();
        let sender = std::thread::spawn(move || {
            let (mut events, mut tags) = (Vec::new(), 0);
            while tags < 50 {
                let Event::Sent { tag, outcome } = next(near.as_mut(), &mut events) else {
                    unreachable!("nothing is received here");
                };
                assert_eq!((tag, outcome), (tags, Ok(())));
                tags += 1;
            }
            near
        });
        let (mut events, mut target) = (Vec::new(), Some(scratch()));
        for tag in 0..50 {
            let body = Incoming::Owned(vec![0; 3]);
            let scratch = target.take().expect("came back");
            let data = Incoming::Grant(scratch, tag * 5..LEN - 7);
            far.receive(Targets::from_iter([body, data]));
            let Event::Received {
                mut targets,
                outcome,
            } = next(far.as_mut(), &mut events)
            else {
                unreachable!("nothing is sent here");
            };
            assert_eq!(outcome, Ok(()));
            assert_eq!(targets[0].bytes(), [tag as u8; 3]);
            assert!(targets[1].bytes() == &object.bytes()[tag * 5..LEN - 7]);
            let Some(Incoming::Grant(scratch, _)) = targets.pop() else {
                unreachable!("it was a grant");
            };
            target = Some(scratch);
        }
        drop(sender.join().expect("sender"));
        far.receive(Targets::from_iter([Incoming::Owned(vec![0; 1])]));
        let Event::Received { outcome, .. } = next(far.as_mut(), &mut events) else {
            unreachable!("nothing is sent here");
        };
        assert!(outcome.is_err(), "the peer is gone");
    });
}

#[test]
fn a_shut_channel_gives_everything_back_and_takes_no_more() {
    each(|transport| {
        let [mut near, far] = pair(transport);
        let object = Arc::new(scratch());
        for tag in 0..20 {
            let data = Outgoing::Object(Arc::clone(&object), 0..LEN);
            near.send(tag, Message::from_iter([data]));
        }
        near.receive(Targets::from_iter([Incoming::Grant(scratch(), 0..LEN)]));
        near.flush();
        near.shut();
        near.send(20, Message::from_iter([Outgoing::Owned(vec![1])]));
        let (mut events, mut failed, mut back) = (Vec::new(), 0, 0);
        while failed < 22 {
            match next(near.as_mut(), &mut events) {
                Event::Sent {
                    outcome: Ok(()), ..
                } => back += 1,
                Event::Sent { .. } => failed += 1,
                Event::Received { outcome, .. } => {
                    assert!(outcome.is_err());
                    failed += 1;
                }
            }
            if failed + back == 22 {
                break;
            }
        }
        // Pages that the other end could still read are let go when it ends.
        drop(far);
        near.send(21, Message::from_iter([Outgoing::Owned(vec![1])]));
        let Event::Sent { outcome, .. } = next(near.as_mut(), &mut events) else {
            unreachable!("only a send was queued");
        };
        assert!(outcome.is_err());
        assert!(near.into_rest().is_none());
        assert_eq!(Arc::strong_count(&object), 1);
    });
}

#[test]
fn what_was_lent_is_pinned_until_it_has_been_read() {
    let [mut near, mut far] = pair(Transport::Best);
    let mut object = scratch();
    object.bytes_mut().fill(7);
    let object = Arc::new(object);
    let lend = || Message::from_iter([Outgoing::Object(Arc::clone(&object), 0..256 << 10)]);
    let mut events = Vec::new();
    near.send(0, lend());
    for _ in 0..3 {
        near.reap(&mut events, Duration::from_millis(1));
    }
    assert!(events.is_empty(), "it is with the kernel, and not read");
    let read = |far: &mut Box<dyn Channel>| {
        far.receive(Targets::from_iter([Incoming::Owned(vec![0; 256 << 10])]));
        match next(far.as_mut(), &mut Vec::new()) {
            Event::Received { targets, outcome } => (targets[0].bytes().to_vec(), outcome),
            Event::Sent { .. } => unreachable!("nothing is sent there"),
        }
    };
    let (bytes, outcome) = read(&mut far);
    assert!(outcome.is_ok() && bytes.iter().all(|&byte| byte == 7));
    let sent = next(near.as_mut(), &mut events);
    assert!(matches!(
        sent,
        Event::Sent {
            tag: 0,
            outcome: Ok(())
        }
    ));
    assert_eq!(Arc::strong_count(&object), 1);

    near.send(1, lend());
    near.flush();
    let rest = near.into_rest().expect("nobody has read it");
    assert!(!rest.is_read() && Arc::strong_count(&object) == 2);
    let (bytes, outcome) = read(&mut far);
    assert!(outcome.is_ok() && bytes.iter().all(|&byte| byte == 7));
    assert!(rest.is_read());
    drop(rest);
    assert_eq!(Arc::strong_count(&object), 1);
}

#[test]
fn memory_that_can_still_be_read_is_given_up_rather_than_reused() {
    let [mut near, far] = pair(Transport::Best);
    let object = Arc::new(scratch());
    near.send(
        0,
        Message::from_iter([Outgoing::Object(Arc::clone(&object), 0..LEN)]),
    );
    near.flush();
    drop(near);
    assert_eq!(Arc::strong_count(&object), 2);
    drop(far);
}

#[test]
fn a_wake_ends_a_wait() {
    each(|transport| {
        let [mut near, _far] = pair(transport);
        let (waker, mut events) = (near.waker(), Vec::new());
        let start = std::time::Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake_by_ref());
            near.reap(&mut events, Duration::from_mins(1));
        });
        assert!(events.is_empty() && start.elapsed() < Duration::from_secs(30));
    });
}
