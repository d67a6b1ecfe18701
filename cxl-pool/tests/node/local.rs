//! Clients of the node's own host: over a local socket, on which pages are lent, not copied.

use crate::link::CutLink;
use crate::raw::Raw;
use crate::support::*;
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Client, Refusal, RemoteError, RemoteOptions};
use larder_pool::sys::net::Transport;
use larder_pool::wire::reply::Reply;
use larder_pool::wire::request::{Check, GetRange, Request};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

const HALF: u32 = 512 << 10;

/// What the report says of a reader's way to the node.
fn way(options: &RemoteOptions) -> &'static str {
    let client = Client::connect(options).expect("connects");
    let hash = client.put_object(&content(1, 4096)).expect("put");
    let (driver, _) = client.read_objects(&[hash]).expect("opens");
    driver.name()
}

#[test]
fn who_finds_the_node_at_its_address_comes_over_a_local_socket() {
    let near = node(MIB);
    assert_eq!(way(&remote(&near)), "local socket");
    // A forwarder is there for a reason.
    let link = CutLink::to(near.address());
    let through = RemoteOptions::new(link.address.to_string());
    assert!(way(&through).starts_with("tcp on"), "{}", way(&through));
    let transport = Transport::Tcp;
    let only = RemoteOptions {
        transport,
        ..remote(&near)
    };
    assert!(way(&only).starts_with("tcp on"));
    let far = Node::start(NodeOptions {
        transport,
        ..options(MIB)
    });
    let far = far.expect("a node starts");
    assert!(far.local_name().is_none() && way(&remote(&far)).starts_with("tcp on"));
}

/// A node whose memory an object fills by half, its bytes, and somebody who has asked for all of
/// it and reads nothing.
fn lent() -> (Node, Arc<Client>, Vec<u8>, Raw<UnixStream>) {
    let node = node(4 * MIB);
    let client = client(&node);
    let bytes = content(1, 2 << 20);
    let hash = client.put_object(&bytes).expect("put");
    let capability = client.open(hash).expect("open");
    let mut deaf = Raw::beside(&node);
    let ranges = (0..4).map(|index| GetRange {
        id: index,
        capability,
        offset: index * u64::from(HALF),
        len: HALF,
        check: Check::Nothing,
    });
    deaf.ask(&Request::Get(ranges.collect()));
    // The next answer on this connection comes behind the data, so those are under way.
    deaf.ask(&Request::Stat);
    wait_until(|| is_refused(&client));
    (node, client, bytes, deaf)
}

/// Three of the four MiB are not to be had.
fn is_refused(client: &Client) -> bool {
    let refused = client.put_object(&content(2, 3 << 20));
    let is_full = |error: &RemoteError| {
        let RemoteError::Refused { refusal, .. } = error else {
            return false;
        };
        matches!(refusal, Refusal::Full { .. })
    };
    refused.as_ref().err().is_some_and(is_full)
}

fn read_all(deaf: &mut Raw<UnixStream>) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..4 {
        let (reply, data) = deaf.answer_with_data().expect("data");
        assert!(matches!(reply, Reply::Data(_)), "{reply:?}");
        all.extend(data);
    }
    all
}

#[test]
fn memory_on_its_way_to_a_reader_is_not_given_to_others() {
    let (_node, client, bytes, mut deaf) = lent();
    assert!(is_refused(&client));
    assert!(read_all(&mut deaf) == bytes);
    assert!(matches!(deaf.answer(), Ok(Reply::Stats(_))));
    wait_until(|| !is_refused(&client));
}

#[test]
fn nor_after_the_node_has_hung_up() {
    let (node, client, bytes, mut deaf) = lent();
    let before = node.stat().clients;
    std::io::Write::write_all(&mut deaf.0, &[0xff; 64]).expect("sent");
    wait_until(|| node.stat().clients < before);
    assert!(is_refused(&client));
    assert!(read_all(&mut deaf) == bytes);
    assert!(matches!(deaf.answer(), Ok(Reply::Stats(_))));
    assert!(matches!(deaf.answer(), Ok(Reply::Refused(Refusal::Misuse))));
    wait_until(|| !is_refused(&client));
}

#[test]
fn a_reader_that_is_gone_holds_nothing() {
    let (_node, client, _, deaf) = lent();
    drop(deaf);
    wait_until(|| !is_refused(&client));
}
