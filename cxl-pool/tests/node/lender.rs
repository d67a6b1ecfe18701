//! Where a node lends its memory to processes of its host: tickets, and who comes with them.

use crate::raw::Raw;
use crate::support::*;
use larder_pool::clock::VirtualClock;
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Capability, Client, ObjectHash};
use larder_pool::sys::net::door::{LocalName, connect};
use larder_pool::sys::net::handover;
use larder_pool::units::Nanos;
use larder_pool::wire::reply::{Refusal, Reply};
use larder_pool::wire::request::Request;
use larder_pool::wire::ticket::Ticket;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Tickets that wait, and readers, at a time.
const MOST: usize = 64;
const HOUR: Nanos = Nanos::new(3_600_000_000_000);

/// A connection to where the node lends its memory.
fn caller(node: &Node) -> UnixStream {
    let name = format!(
        "larder-memory-{:016x}-{}",
        node.incarnation(),
        node.address().port()
    );
    let stream = connect(&LocalName::new(name), WAIT).expect("connects");
    stream.set_read_timeout(Some(WAIT)).expect("set");
    stream
}

/// Comes with a ticket; the connection and the memory, if that is given.
fn collect(node: &Node, ticket: Ticket) -> Option<(UnixStream, OwnedFd)> {
    let mut stream = caller(node);
    stream.write_all(ticket.bytes()).expect("sent");
    let memory = handover::take(&stream).expect("an answer")?;
    Some((stream, memory))
}

fn is_hung_up(stream: &mut UnixStream) -> bool {
    loop {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return matches!(outcome, Ok(0)),
        }
    }
}

/// Asks for objects; the ticket, and where they stand.
fn place(
    raw: &mut Raw,
    ticket: Option<Ticket>,
    capabilities: &[Capability],
) -> Result<(Ticket, Vec<u64>), Refusal> {
    raw.ask(&Request::Place {
        ticket,
        capabilities: capabilities.to_vec(),
    });
    match raw.answer().expect("an answer") {
        Reply::Placed { ticket, offsets } => Ok((ticket, offsets)),
        Reply::Refused(refusal) => Err(refusal),
        reply => panic!("{reply:?}"),
    }
}

/// Stores content; its name and capability.
fn put(client: &Client, seed: u64, len: usize) -> (ObjectHash, Capability) {
    let hash = client.put_object(&content(seed, len)).expect("put");
    (hash, client.open(hash).expect("open"))
}

#[test]
fn a_ticket_is_good_once_and_for_reading_only() {
    let node = node(4 * MIB);
    let client = client(&node);
    let (_, first) = put(&client, 1, 5000);
    let (_, second) = put(&client, 2, 7000);
    let mut raw = Raw::greeted(node.address());
    let (ticket, mut offsets) = place(&mut raw, None, &[first]).expect("placed");
    let (again, more) = place(&mut raw, Some(ticket), &[second, first]).expect("placed");
    assert_eq!((again, more[1]), (ticket, offsets[0]));
    offsets.push(more[0]);
    let (stream, memory) = collect(&node, ticket).expect("given");
    let memory = File::from(memory);
    for (offset, bytes) in offsets.iter().zip([content(1, 5000), content(2, 7000)]) {
        let mut found = vec![0; bytes.len()];
        memory.read_exact_at(&mut found, *offset).expect("read");
        assert!(found == bytes);
        assert!(memory.write_all_at(&[1], *offset).is_err());
    }
    assert!(memory.set_len(0).is_err() && memory.set_len(8 * MIB).is_err());
    assert!(collect(&node, ticket).is_none());
    drop(stream);
    wait_until(|| place(&mut raw, Some(ticket), &[first]) == Err(Refusal::Stale));
}

#[test]
fn a_reader_is_given_more_as_long_as_it_reads_and_loses_nothing_by_a_refusal() {
    let clock = VirtualClock::default();
    let node = Node::start_at(options(4 * MIB), Arc::new(clock.clone()));
    let node = node.expect("a node starts");
    let client = client(&node);
    let (_, first) = put(&client, 1, 1 << 20);
    let (_, second) = put(&client, 2, 1 << 20);
    let (hash, gone) = put(&client, 3, 5000);
    client.set_name("gone", hash, &[]).expect("name");
    client.remove("gone").expect("removed");
    let mut raw = Raw::greeted(node.address());
    // Nothing at first.
    let (ticket, offsets) = place(&mut raw, None, &[]).expect("placed");
    assert!(offsets.is_empty());
    let (stream, _memory) = collect(&node, ticket).expect("given");
    clock.advance_to(HOUR);
    let mut other = Raw::greeted(node.address());
    let foreign = place(&mut other, Some(ticket), &[first]);
    assert_eq!(foreign, Err(Refusal::Stale), "it is another's");
    let (same, _) = place(&mut raw, Some(ticket), &[first, second]).expect("placed");
    assert_eq!(same, ticket);
    let refused = place(&mut raw, Some(ticket), &[second, gone]);
    assert_eq!(refused, Err(Refusal::Stale));
    let put = |mib: usize| client.put_object(&content(mib as u64, mib << 20)).is_ok();
    assert!(put(2) && !put(3), "what is read is kept");
    // Whoever asked for it may go.
    drop(raw);
    wait_until(|| client.usage().expect("stat").clients == 2);
    assert!(!put(3));
    drop(stream);
    wait_until(|| put(4));
}

#[test]
fn who_sends_no_ticket_is_sent_away_and_holds_up_nobody() {
    let node = node(4 * MIB);
    let client = client(&node);
    let (hash, capability) = put(&client, 1, 5000);
    let mut silent = caller(&node);
    let mut slow = caller(&node);
    slow.write_all(&[1; 15]).expect("sent");
    let unknown = Ticket::new([9; 16]).expect("not zero");
    assert!(collect(&node, unknown).is_none());
    let mut zero = caller(&node);
    zero.write_all(&[0; 16]).expect("sent");
    assert!(is_hung_up(&mut zero));
    let (_, source) = client.read_objects(&[hash]).expect("opens");
    assert!(client.place(&source).expect("an answer").is_some());
    assert!(is_hung_up(&mut silent) && is_hung_up(&mut slow));
    let mut raw = Raw::greeted(node.address());
    let (ticket, _) = place(&mut raw, None, &[capability]).expect("placed");
    let (mut stream, _memory) = collect(&node, ticket).expect("given");
    // A reader that talks is a reader all the same.
    stream.write_all(&[7; 1000]).expect("sent");
    let limit = Some(Duration::from_millis(1500));
    stream.set_read_timeout(limit).expect("set");
    assert!(!is_hung_up(&mut stream));
}

#[test]
fn tickets_expire_and_readers_do_not() {
    let clock = VirtualClock::default();
    let node = Node::start_at(options(4 * MIB), Arc::new(clock.clone()));
    let node = node.expect("a node starts");
    let client = client(&node);
    let (_, read) = put(&client, 1, 1 << 20);
    let (_, waits) = put(&client, 2, 2 << 20);
    let mut raw = Raw::greeted(node.address());
    let (ticket, offsets) = place(&mut raw, None, &[read]).expect("placed");
    let (stream, memory) = collect(&node, ticket).expect("given");
    let (ticket, _) = place(&mut raw, None, &[waits]).expect("placed");
    let has_room = || client.put_object(&content(3, 3 << 20)).is_ok();
    assert!(!has_room());
    clock.advance_to(HOUR);
    wait_until(has_room);
    assert_eq!(node.stat().mem_used, 4 * MIB, "the reader's is kept");
    assert!(collect(&node, ticket).is_none());
    let mut found = vec![0; 1 << 20];
    let memory = File::from(memory);
    memory.read_exact_at(&mut found, offsets[0]).expect("read");
    assert!(found == content(1, 1 << 20));
    drop(stream);
    wait_until(|| client.put_object(&content(4, 4 << 20)).is_ok());
}

#[test]
fn strangers_get_no_ticket() {
    let node = Node::start(NodeOptions {
        token: Some("secret".to_owned()),
        ..options(MIB)
    });
    let node = node.expect("a node starts");
    let mut raw = Raw::connect(node.address());
    raw.ask(&Request::Place {
        ticket: None,
        capabilities: Vec::new(),
    });
    let answer = raw.answer().expect("an answer");
    assert_eq!(answer, Reply::Refused(Refusal::Unauthorised));
    assert!(raw.is_closed());
}

#[test]
fn a_refused_object_gives_up_those_before_it() {
    let node = node(4 * MIB);
    let client = client(&node);
    let (hash, gone) = put(&client, 1, 5000);
    client.set_name("gone", hash, &[]).expect("name");
    client.remove("gone").expect("removed");
    let (_, there) = put(&client, 2, 3 << 20);
    let mut raw = Raw::greeted(node.address());
    let (ticket, _) = place(&mut raw, None, &[there]).expect("placed");
    let refused = place(&mut raw, Some(ticket), &[there, gone]);
    assert_eq!(refused, Err(Refusal::Stale));
    assert!(collect(&node, ticket).is_none());
    client.put_object(&content(3, 4 << 20)).expect("room");
}

#[test]
fn tickets_and_readers_are_counted() {
    let node = node(4 * MIB);
    let client = client(&node);
    let (hash, capability) = put(&client, 1, 5000);
    let mut raw = Raw::greeted(node.address());
    let tickets: Vec<_> = (0..MOST)
        .map(|_| place(&mut raw, None, &[capability]).expect("placed").0)
        .collect();
    let limit = MOST as u64;
    let refused = place(&mut raw, None, &[capability]);
    assert_eq!(refused, Err(Refusal::Limit { limit }));
    let mut other = Raw::greeted(node.address());
    let foreign = place(&mut other, Some(tickets[0]), &[capability]);
    assert_eq!(foreign, Err(Refusal::Stale), "it is another's");
    let (_, source) = client.read_objects(&[hash]).expect("opens");
    let place_all = || client.place(&source).expect("an answer");
    assert!(place_all().is_none(), "no ticket");
    let mut readers: Vec<_> = tickets
        .into_iter()
        .map(|ticket| collect(&node, ticket).expect("given"))
        .collect();
    assert!(place_all().is_none(), "no room for a reader");
    drop(readers.pop());
    wait_until(|| place_all().is_some());
}
