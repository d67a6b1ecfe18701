//! Nodes, clients and memory for the tests.

use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Client, RemoteOptions};
use larder_pool::sys::io::{Done, Driver, Op, Verb};
use larder_pool::sys::lease::{FillPiece, ReadLease, SlotTable};
use larder_pool::sys::mapping::Mapping;
use larder_pool::sys::net::Transport;
use larder_pool::sys::space::Space;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const WAIT: Duration = Duration::from_secs(20);

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn options(mem: u64) -> NodeOptions {
    NodeOptions::new(loopback(), mem)
}

pub(crate) fn node(mem: u64) -> Node {
    Node::start(options(mem)).expect("a node starts")
}

pub(crate) fn client(node: &Node) -> Arc<Client> {
    Client::connect(&remote(node)).expect("connects")
}

pub(crate) fn remote(node: &Node) -> RemoteOptions {
    RemoteOptions::new(node.address().to_string())
}

/// Every transport, one after the other.
pub(crate) fn each_transport(check: impl Fn(Transport)) {
    check(Transport::Best);
    check(Transport::Tcp);
    check(Transport::Threads);
}

/// `len` bytes that differ from place to place and from seed to seed.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut random = larder_pool::sim::SplitMix(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Memory of a client, with slots.
pub(crate) struct Memory {
    pub(crate) space: Arc<Space>,
    pub(crate) table: Arc<SlotTable>,
    next: usize,
}

impl Memory {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            space: Space::mapped(Mapping::new(bytes).expect("memory")),
            table: SlotTable::new(4096),
            next: 0,
        }
    }

    /// Pieces of `cut` bytes of a fill of `len` bytes.
    pub(crate) fn pieces(&mut self, len: u64, cut: u64) -> Vec<FillPiece> {
        let extent = self.space.alloc_low(len).expect("room");
        let mut fill = self.table.begin_fill(self.next, extent).expect("absent");
        self.next += 1;
        let mut cutter = fill.cutter();
        let mut pieces = Vec::new();
        while cutter.left() > 0 {
            pieces.push(cutter.cut(cutter.left().min(cut)));
        }
        pieces
    }

    /// A block that holds `bytes`, to be written from.
    pub(crate) fn block(&mut self, bytes: &[u8]) -> ReadLease {
        let extent = self.space.alloc_low(bytes.len() as u64).expect("room");
        let slot = self.next;
        let mut append = self.table.begin_append(slot, extent).expect("absent");
        append.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        self.next += 1;
        append.publish(bytes.len() as u64);
        self.table.pin(slot).expect("ready")
    }
}

/// Submits and waits for all of them, in the order of their tags.
pub(crate) fn run(driver: &mut dyn Driver, ops: Vec<Op>) -> Vec<Done> {
    let (mut done, count) = (Vec::new(), ops.len());
    for mut op in ops {
        while let Err(back) = driver.submit(op) {
            driver.reap(&mut done, WAIT).expect("reap");
            op = back;
        }
    }
    for _ in 0..10_000 {
        if done.len() >= count {
            break;
        }
        driver.reap(&mut done, WAIT).expect("reap");
    }
    assert_eq!(done.len(), count, "every operation completes");
    done.sort_by_key(|one| one.tag);
    done
}

pub(crate) fn read(tag: u64, file: u32, offset: u64, piece: FillPiece) -> Op {
    let verb = Verb::Read(piece);
    Op {
        tag,
        file,
        offset,
        verb,
    }
}

/// Waits for something that another thread does.
pub(crate) fn wait_until(is_so: impl FnMut() -> bool) {
    let mut is_so = is_so;
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < WAIT, "it never came to be");
        std::thread::yield_now();
    }
}
