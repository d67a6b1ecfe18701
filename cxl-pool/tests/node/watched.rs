//! Nodes under a watch: suspect when they do not answer, gone when they are, found again.

use crate::lent::{op, outcome, seal, writes};
use crate::link::CutLink;
use crate::support::*;
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Client, RemoteOptions, Standing};
use larder_pool::sys::io::{Driver, Errno, Verb};
use std::sync::Arc;
use std::time::Instant;

/// A read of `len` bytes of file 0 from `offset`: what came, or why not.
fn get(
    driver: &mut dyn Driver,
    memory: &mut Memory,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, Errno> {
    let piece = memory.pieces(len, len).remove(0);
    let done = run(driver, vec![read(0, 0, offset, piece)]).remove(0);
    let Verb::Read(piece) = done.verb else {
        unreachable!("a read");
    };
    done.outcome.map(|_| piece.bytes().to_vec())
}

fn client_at(link: &CutLink) -> Arc<Client> {
    let options = RemoteOptions::new(link.address.to_string());
    Client::connect(&options).expect("connects")
}

/// Writes and seals one object at `offset`.
fn put(writer: &mut dyn Driver, memory: &mut Memory, offset: u64, bytes: &[u8]) -> Option<()> {
    let block = memory.block(bytes);
    for write in writes(&block, offset, bytes.len() as u64) {
        outcome(writer, write).ok()?;
    }
    outcome(writer, op(0, offset, seal(bytes))).ok()?;
    Some(())
}

#[test]
fn a_node_that_is_cut_off_is_suspect_within_a_second_and_nothing_is_lost() {
    let node = node(64 * MIB);
    let link = CutLink::to(node.address());
    let client = client_at(&link);
    let watch = client.watch().expect("a thread");
    let bytes = content(1, 1 << 20);
    let hash = client.put_object(&bytes).expect("put");
    let (mut contents, _) = client.read_objects(&[hash]).expect("opens");
    let lent = client.lend(16 * MIB).expect("room");
    let mut writer = lent.writer().expect("writer");
    let (mut reader, _) = lent.reader().expect("reader");
    let mut memory = Memory::new(128 * MIB);
    let own = content(2, 2 << 20);
    lent.expect(0, 2 * MIB).expect("inside");
    put(writer.as_mut(), &mut memory, 0, &own).expect("written");
    let health = Arc::clone(client.health());
    for round in 1..4 {
        assert_eq!(
            get(contents.as_mut(), &mut memory, 0, MIB).as_ref(),
            Ok(&bytes)
        );
        let cut_at = Instant::now();
        link.cut();
        // What is under way comes back without the node: its memory is needed for another replica.
        assert_eq!(
            get(contents.as_mut(), &mut memory, 0, MIB),
            Err(Errno::ETIMEDOUT)
        );
        assert!(
            cut_at.elapsed().as_millis() < 1500,
            "{:?}",
            cut_at.elapsed()
        );
        assert_eq!(health.standing(), Standing::Suspect);
        assert_eq!(health.share(), 0.0, "nothing new is placed there");
        let again = Instant::now();
        assert_eq!(
            get(reader.as_mut(), &mut memory, 0, MIB),
            Err(Errno::ETIMEDOUT)
        );
        assert!(again.elapsed().as_millis() < 500, "no second wait");
        link.heal();
        wait_until(|| health.standing() == Standing::Alive);
        wait_until(|| get(reader.as_mut(), &mut memory, 0, 2 * MIB).as_ref() == Ok(&own));
        wait_until(|| get(contents.as_mut(), &mut memory, 0, MIB).as_ref() == Ok(&bytes));
        let counts = health.counts();
        assert_eq!(
            (counts.suspected, counts.lost, counts.joined),
            (round, 0, 0)
        );
        assert!(lent.stands() && health.life() == 1);
    }
    drop(watch);
}

#[test]
fn a_node_that_died_is_found_again_and_lends_anew() {
    let mut node = node(64 * MIB);
    let address = node.address();
    let client = client(&node);
    let _watch = client.watch().expect("a thread");
    let bytes = content(1, 1 << 20);
    let hash = client.put_object(&bytes).expect("put");
    let (mut contents, source) = client.read_objects(&[hash]).expect("opens");
    let lent = client.lend(16 * MIB).expect("room");
    let mut writer = lent.writer().expect("writer");
    let (mut reader, _) = lent.reader().expect("reader");
    let mut memory = Memory::new(256 * MIB);
    let own = content(2, 1 << 20);
    let mut extent = lent.space().alloc_low(MIB);
    lent.expect(0, MIB).expect("inside");
    put(writer.as_mut(), &mut memory, 0, &own).expect("written");
    let health = Arc::clone(client.health());
    node.stop();
    drop(node);
    wait_until(|| health.standing() == Standing::Gone);
    wait_until(|| get(contents.as_mut(), &mut memory, 0, MIB) == Err(Errno::ENOTCONN));
    wait_until(|| get(reader.as_mut(), &mut memory, 0, MIB) == Err(Errno::ENOTCONN));
    wait_until(|| {
        let _ = outcome(writer.as_mut(), op(0, 0, Verb::Free));
        !lent.stands()
    });
    // It comes back with nothing: the content has to be loaded again.
    let _node = Node::start(NodeOptions::new(address, 32 * MIB)).expect("the port is free");
    wait_until(|| health.standing() == Standing::Alive);
    assert_eq!(health.life(), 2);
    assert!(!source.is_whole() && health.share() < 0.5);
    assert!(get(contents.as_mut(), &mut memory, 0, MIB).is_err());
    assert!(
        !lent.renew(),
        "somebody still has an extent of the life before"
    );
    drop(extent.take());
    assert!(lent.renew() && lent.capacity() == 32 * MIB);
    let stale = get(reader.as_mut(), &mut memory, 0, MIB);
    assert!(stale.is_err(), "what was lent is not there any more");
    lent.expect(MIB, MIB).expect("inside");
    put(writer.as_mut(), &mut memory, MIB, &own).expect("written");
    assert_eq!(
        get(reader.as_mut(), &mut memory, MIB, MIB).as_ref(),
        Ok(&own)
    );
}

#[test]
fn content_is_opened_again_in_the_next_life() {
    let mut node = node(64 * MIB);
    let (address, bytes) = (node.address(), content(1, 1 << 20));
    let link = CutLink::to(address);
    let client = client_at(&link);
    let _watch = client.watch().expect("a thread");
    let hash = client.put_object(&bytes).expect("put");
    let (mut contents, source) = client.read_objects(&[hash]).expect("opens");
    let mut memory = Memory::new(64 * MIB);
    link.cut();
    node.stop();
    drop(node);
    let node = Node::start(NodeOptions::new(address, 32 * MIB)).expect("the port is free");
    crate::support::client(&node)
        .put_object(&bytes)
        .expect("put");
    link.heal();
    wait_until(|| client.health().life() == 2);
    assert!(source.is_whole());
    wait_until(|| get(contents.as_mut(), &mut memory, 0, MIB).as_ref() == Ok(&bytes));
}

#[test]
fn a_node_may_come_later() {
    let mut early = node(16 * MIB);
    let address = early.address();
    early.stop();
    drop(early);
    let options = RemoteOptions::new(address.to_string());
    let client = Client::later(&options);
    let _watch = client.watch().expect("a thread");
    let lent = client.lend_later();
    let mut writer = lent.writer().expect("a writer to come");
    let (mut reader, _) = lent.reader().expect("a reader to come");
    let mut memory = Memory::new(64 * MIB);
    let own = content(2, 1 << 20);
    assert!(lent.expect(0, MIB).is_err() && lent.capacity() == 0 && !lent.stands());
    assert_eq!(
        get(reader.as_mut(), &mut memory, 0, MIB),
        Err(Errno::ENOTCONN)
    );
    let _node = Node::start(NodeOptions::new(address, 16 * MIB)).expect("the port is free");
    wait_until(|| lent.renew());
    lent.expect(0, MIB).expect("inside");
    put(writer.as_mut(), &mut memory, 0, &own).expect("written");
    assert_eq!(get(reader.as_mut(), &mut memory, 0, MIB).as_ref(), Ok(&own));
    assert_eq!(client.health().counts().joined, 1);
}
