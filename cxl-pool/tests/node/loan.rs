//! What a client put into lent memory, read where it stands.

use crate::lent::{op, outcome, seal, writes};
use crate::support::*;
use larder_pool::block::{BlockSpec, PartSpec, Run};
use larder_pool::checksum::{SumStore, sums_of};
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Client, Lent, PlacedLoan, RemoteOptions};
use larder_pool::sys::io::{Driver, Verb};
use larder_pool::sys::lease::{ReadLease, SlotTable};
use larder_pool::sys::net::Transport;
use larder_pool::sys::slot::{PartRange, State};
use larder_pool::table::{block_table, home_slot, slot_of};
use larder_pool::transfer::MoveError;
use larder_pool::units::BlockId;
use std::sync::Arc;

const LEN: usize = 1 << 20;
const FIRST_PART: u64 = 100;

fn block(index: usize) -> BlockId {
    BlockId::new(index as u32)
}

/// A client that lends memory of a node and reads there what it puts.
struct Bench {
    client: Arc<Client>,
    lent: Arc<Lent>,
    writer: Box<dyn Driver>,
    memory: Memory,
    table: Arc<SlotTable>,
    sums: SumStore,
}

impl Bench {
    fn new(node: &Node) -> Self {
        let client = client(node);
        let lent = client
            .lend(client.info().expect("info").free_bytes)
            .expect("there is room");
        assert!(lent.placed().is_none());
        assert!(lent.place().expect("the node answers"));
        Self {
            writer: lent.writer().expect("writer"),
            client,
            lent,
            memory: Memory::new(16 * MIB),
            table: block_table(64),
            sums: SumStore::default(),
        }
    }

    fn placed(&self) -> Arc<PlacedLoan> {
        self.lent.placed().expect("placed")
    }

    /// Puts a block of the bytes of `seed` at home.
    fn put(&mut self, index: usize, seed: u64) {
        let bytes = content(seed, LEN);
        let extent = self.lent.space().alloc_low(LEN as u64).expect("room");
        let at = extent.start();
        self.lent.expect(at, LEN as u64).expect("nothing is there");
        let from = self.memory.block(&bytes);
        for done in run(self.writer.as_mut(), writes(&from, at, LEN as u64)) {
            assert_eq!(done.outcome, Ok(done.verb.len()));
        }
        let sealed = outcome(self.writer.as_mut(), op(0, at, seal(&bytes)));
        assert_eq!(sealed, Ok(0));
        let fill = self.table.begin_fill(home_slot(block(index), 0), extent);
        let ends = [(0, FIRST_PART), (128, LEN as u64 - 128)];
        let parts = ends.map(|(offset, len)| PartRange { offset, len });
        fill.expect("absent").publish(parts.into_iter().collect());
    }

    fn stored(&self, index: usize) -> ReadLease {
        self.table.pin(home_slot(block(index), 0)).expect("at home")
    }

    fn publish(&self, index: usize) -> Result<bool, MoveError> {
        let stored = self.stored(index);
        self.placed()
            .publish(&self.table, block(index), &stored, &self.sums)
    }

    fn is_pinned(&self, index: usize) -> Option<bool> {
        self.placed().is_pinned(&self.stored(index))
    }

    fn reads(&self, index: usize, seed: u64) -> bool {
        let lease = self.table.pin(slot_of(block(index))).expect("ready");
        let bytes = content(seed, LEN);
        lease.is_lent() && lease.part(0) == &bytes[..100] && lease.part(1) == &bytes[128..]
    }

    /// Takes a block from home.
    fn free(&mut self, index: usize) {
        let extent = self.table.evict(home_slot(block(index), 0));
        let at = extent.expect("at home").start();
        let freed = outcome(self.writer.as_mut(), op(0, at, Verb::Free));
        assert_eq!(freed, Ok(0));
    }
}

#[test]
fn what_was_put_is_read_there_and_more_is_pinned_as_it_comes() {
    let node = node(16 * MIB);
    let mut bench = Bench::new(&node);
    for index in 0..3 {
        bench.put(index, index as u64);
    }
    assert!(bench.publish(1).expect("sound"));
    assert!(!bench.publish(1).expect("it is there"));
    bench.put(3, 3);
    for index in [0, 2, 3] {
        assert!(bench.publish(index).expect("sound"), "{index}");
    }
    for index in 0..4 {
        assert!(bench.reads(index, index as u64), "{index}");
    }
    assert_eq!(bench.placed().read_bytes(), 4 * MIB);
    assert_eq!(node.stat().mem_used, 4 * MIB, "nothing was copied");
}

#[test]
fn what_was_freed_stays_while_it_is_read_and_another_in_its_place_is_another() {
    let node = node(3 * MIB);
    let mut bench = Bench::new(&node);
    bench.put(0, 1);
    assert!(bench.publish(0).expect("sound"));
    let at = bench.stored(0).extent().0;
    bench.free(0);
    bench.put(1, 2);
    assert_eq!(bench.stored(1).extent().0, at, "the same address");
    assert!(bench.publish(1).expect("sound"));
    assert!(bench.reads(0, 1) && bench.reads(1, 2));
    let full = bench.client.put_object(&content(3, 2 * LEN));
    assert!(full.is_err_and(|error| error.is_capacity()), "both count");
}

#[test]
fn who_lost_what_was_lent_reads_on_what_was_published_and_no_more() {
    let node = node(4 * MIB);
    let mut bench = Bench::new(&node);
    for index in 0..3 {
        bench.put(index, index as u64);
    }
    for index in [0, 1] {
        assert!(bench.publish(index).expect("sound"));
    }
    bench.put(3, 3);
    bench.writer = bench.lent.writer().expect("writer");
    wait_until(|| bench.client.usage().expect("stat").lent == 0);
    for seed in 4..8 {
        let put = |len| bench.client.put_object(&content(seed, len));
        assert!(put(3 * LEN).is_err_and(|error| error.is_capacity()));
        put(2 * LEN).expect("room of those that nobody reads");
    }
    let error = bench.publish(3).expect_err("it is gone");
    assert!(matches!(error, MoveError::Unplaced { .. }), "{error}");
    assert!(bench.placed().is_over() && bench.publish(2).is_err());
    assert!(bench.table.evict(slot_of(block(1))).is_some());
    assert!(bench.publish(1).expect("it is pinned"));
    assert!(bench.reads(0, 0) && bench.reads(1, 1));
}

#[test]
fn damage_is_seen_where_it_stands_and_what_was_checked_is_not_read_again() {
    let node = node(4 * MIB);
    let mut bench = Bench::new(&node);
    bench.put(0, 1);
    let part = |offset, len| PartSpec {
        run: 0,
        offset,
        len,
    };
    let run = Run {
        file: 0,
        offset: 0,
        len: LEN as u64,
    };
    let spec = BlockSpec {
        runs: [run].into_iter().collect(),
        parts: [part(0, FIRST_PART), part(128, run.len - 128)]
            .into_iter()
            .collect(),
    };
    bench
        .sums
        .replace(block(0), sums_of(&spec, &content(2, LEN)));
    let error = bench.publish(0).expect_err("other bytes");
    assert!(error.is_damage(), "{error}");
    assert!(error.to_string().contains("memory lent by"), "{error}");
    assert_eq!(bench.table.state(slot_of(block(0))), State::Absent);
    bench
        .sums
        .replace(block(0), sums_of(&spec, &content(1, LEN)));
    assert!(bench.publish(0).expect("sound"));
    assert!(bench.table.evict(slot_of(block(0))).is_some());
    bench
        .sums
        .replace(block(0), sums_of(&spec, &content(2, LEN)));
    assert!(bench.publish(0).expect("was checked") && bench.reads(0, 1));
}

#[test]
fn what_went_to_the_disk_is_not_placed_and_what_is_read_does_not_go_there() {
    let folder = tempfile::tempdir().expect("temp folder");
    let node = Node::start(NodeOptions {
        disk: Some((folder.path().to_owned(), 64 * MIB)),
        ..options(2 * MIB)
    });
    let node = node.expect("a node starts");
    let mut bench = Bench::new(&node);
    assert_eq!(bench.placed().memory_bytes(), 2 * MIB);
    bench.put(0, 1);
    assert!(bench.publish(0).expect("sound"));
    for index in 1..4 {
        bench.put(index, 9);
    }
    assert_eq!(
        node.stat().demoted,
        2,
        "neither the one that is read nor the last"
    );
    assert_eq!(bench.is_pinned(1), None);
    assert!(bench.publish(1).is_err() && !bench.placed().is_over());
    assert_eq!(bench.is_pinned(1), Some(false));
    assert!(bench.publish(3).expect("sound"));
    assert_eq!(bench.is_pinned(3), Some(true));
    assert!(bench.publish(2).is_err() && bench.publish(2).is_err());
    assert!(bench.reads(0, 1) && bench.reads(3, 9));
}

#[test]
fn another_life_of_the_node_is_placed_anew() {
    let mut old = node(4 * MIB);
    let address = old.address();
    let mut bench = Bench::new(&old);
    let _watch = bench.client.watch().expect("a thread");
    bench.put(0, 1);
    assert!(bench.publish(0).expect("sound"));
    let before = bench.placed();
    old.stop();
    drop(old);
    let new = Node::start(NodeOptions::new(address, 4 * MIB)).expect("the port is free");
    let lent = Arc::clone(&bench.lent);
    drop(bench.table.evict(home_slot(block(0), 0)));
    wait_until(|| {
        // Who says that it is lost is who wrote there.
        let _ = outcome(bench.writer.as_mut(), op(0, 0, Verb::Free));
        !lent.stands()
    });
    wait_until(|| lent.health().life() == 2 && lent.renew());
    assert!(!Arc::ptr_eq(&before, &bench.placed()), "the new one's");
    bench.writer = bench.lent.writer().expect("writer");
    bench.put(1, 2);
    assert!(bench.publish(1).expect("sound"));
    assert!(bench.reads(0, 1) && bench.reads(1, 2));
    assert_eq!(new.stat().mem_used, MIB);
}

#[test]
fn a_node_that_comes_later_is_placed_when_it_does() {
    let early = node(MIB);
    let address = early.address();
    drop(early);
    let client = Client::later(&RemoteOptions::new(address.to_string()));
    let _watch = client.watch().expect("a thread");
    let lent = client.lend_later();
    assert!(!lent.place().expect("there is nobody to ask"));
    let _node = Node::start(NodeOptions::new(address, MIB)).expect("the port is free");
    wait_until(|| lent.renew());
    assert!(lent.placed().is_some());
}

#[test]
fn over_tcp_nothing_is_placed() {
    for (of_node, own) in [
        (Transport::Tcp, Transport::Best),
        (Transport::Best, Transport::Tcp),
    ] {
        let node = Node::start(NodeOptions {
            transport: of_node,
            ..options(MIB)
        });
        let node = node.expect("a node starts");
        let client = Client::connect(&RemoteOptions {
            transport: own,
            ..remote(&node)
        });
        let lent = client.expect("connects").lend(MIB).expect("room");
        assert!(!lent.place().expect("the node answers"));
        assert!(lent.placed().is_none());
    }
}
