//! Several clients, lost and restarted nodes, leases that expire.

use crate::raw::Raw;
use crate::support::*;
use larder_pool::clock::VirtualClock;
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::RemoteError;
use larder_pool::source::Source;
use larder_pool::sys::io::{Errno, Verb};
use larder_pool::units::Nanos;
use larder_pool::wire::reply::Reply;
use larder_pool::wire::request::{Kind, Request};
use std::sync::Arc;

#[test]
fn several_clients_share_content() {
    let node = node(128 * MIB);
    let objects: Vec<_> = (0..6).map(|seed| content(seed, 3_000_000)).collect();
    std::thread::scope(|scope| {
        for start in 0..6 {
            let (node, objects) = (&node, &objects);
            scope.spawn(move || {
                let client = client(node);
                for index in 0..6 {
                    let bytes = &objects[(start + index) % 6];
                    let hash = client.put_object(bytes).expect("put");
                    assert!(client.get_object(hash).expect("get") == *bytes);
                }
            });
        }
    });
    let stat = node.stat();
    assert_eq!(stat.content, 6, "each content is there once");
    assert!(stat.mem_used < 6 * 3_000_000 + 6 * 4096, "{stat:?}");
}

#[test]
fn a_lost_node_ends_every_operation_and_later_ones_at_once() {
    each_transport(|transport| {
        let node = Node::start(NodeOptions {
            transport,
            ..options(64 * MIB)
        });
        let mut node = node.expect("a node starts");
        let client = client(&node);
        let hash = client.put_object(&content(1, 8 << 20)).expect("put");
        let (mut driver, source) = client.read_objects(&[hash]).expect("opens");
        source.check(0).expect("it is there");
        let mut memory = Memory::new(32 * MIB);
        let ops = memory.pieces(8 * MIB, 1 << 20).into_iter().enumerate();
        let ops = ops.map(|(i, piece)| read(i as u64, 0, i as u64 * MIB, piece));
        for op in ops {
            driver.submit(op).expect("there is room");
        }
        driver.flush().expect("flush");
        node.stop();
        let mut done = Vec::new();
        for _ in 0..1000 {
            driver.reap(&mut done, WAIT).expect("reap");
            if done.len() == 8 {
                break;
            }
        }
        assert_eq!(done.len(), 8, "every operation completes");
        for one in &done {
            let is_fine = matches!(one.outcome, Ok(1_048_576) | Err(Errno::ECONNRESET));
            assert!(is_fine, "{:?}", one.outcome);
            assert!(matches!(one.verb, Verb::Read(_)), "the piece came home");
        }
        source.check(0).expect("content never changes");
        wait_until(|| {
            let piece = memory.pieces(4096, 4096).remove(0);
            let late = run(driver.as_mut(), vec![read(0, 0, 0, piece)]).remove(0);
            late.outcome == Err(Errno::ENOTCONN)
        });
        assert!(client.info().is_err_and(|error| error.is_lost()));
    });
}

#[test]
fn a_restarted_node_is_another_one() {
    let mut old = node(16 * MIB);
    let client = client(&old);
    let bytes = content(1, 1 << 20);
    let hash = client.put_object(&bytes).expect("put");
    let capability = client.open(hash).expect("open");
    let lent = client.lend(4 * MIB).expect("there is room");
    let (address, incarnation) = (old.address(), old.incarnation());
    assert_eq!(client.incarnation(), incarnation);
    old.stop();
    drop(old);
    let new = Node::start(NodeOptions::new(address, 16 * MIB)).expect("the port is free");
    assert_ne!(new.incarnation(), incarnation);
    let errors = [
        client.info().err(),
        client.info().err(),
        client.get_object(hash).err(),
        lent.writer().err(),
    ];
    for error in errors.into_iter().skip(1) {
        let error = error.expect("handles of the old node are stale");
        assert!(matches!(error, RemoteError::Restarted { .. }), "{error}");
    }
    // Its handle is refused by the new node itself, too.
    let again = crate::support::client(&new);
    again.put_object(&bytes).expect("put");
    let mut raw = Raw::greeted(address);
    raw.ask(&Request::Free { capability });
    let answer = raw.answer().expect("an answer");
    assert_eq!(answer, Reply::Refused(larder_pool::remote::Refusal::Stale));
    assert!(again.get_object(hash).expect("get") == bytes);
}

#[test]
fn a_silent_client_loses_its_lease() {
    let clock = VirtualClock::default();
    let node = Node::start_at(options(16 * MIB), Arc::new(clock.clone()));
    let node = node.expect("a node starts");
    let mut silent = Raw::greeted(node.address());
    silent.ask(&Request::Grant {
        len: MIB,
        kind: Kind::Lent,
    });
    assert!(matches!(silent.answer(), Ok(Reply::Granted(_))));
    let mut idle = Raw::greeted(node.address());
    clock.advance_to(Nanos::new(29_000_000_000));
    silent.ask(&Request::Ping);
    assert_eq!(silent.answer().expect("an answer"), Reply::Done);
    clock.advance_to(Nanos::new(58_000_000_000));
    silent.ask(&Request::Ping);
    assert_eq!(
        silent.answer().expect("a ping renews the lease"),
        Reply::Done
    );
    clock.advance_to(Nanos::new(90_000_000_000));
    assert!(silent.is_closed());
    wait_until(|| node.stat().mem_used == 0);
    idle.ask(&Request::Ping);
    assert_eq!(idle.answer().expect("it holds nothing"), Reply::Done);
}
