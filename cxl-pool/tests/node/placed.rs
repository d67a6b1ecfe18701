//! Content that is read where it stands, in the memory of a node of the same host.

use crate::raw::Raw;
use crate::support::*;
use larder_pool::block::{BlockSpec, PartSpec, Run};
use larder_pool::checksum::{SumStore, sums_of};
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Client, ObjectHash, ObjectSource, Placed, RemoteError, RemoteOptions};
use larder_pool::sys::lease::{ReadLease, SlotTable};
use larder_pool::sys::net::Transport;
use larder_pool::sys::slot::State;
use larder_pool::table::{block_table, slot_of};
use larder_pool::transfer::MoveError;
use larder_pool::units::BlockId;
use larder_pool::wire::reply::{Refusal, Reply};
use larder_pool::wire::request::Request;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Tells a child process which node to read from.
const ADDRESS: &str = "LARDER_TEST_PLACED";

/// Object `file` of `len` bytes as a block of two parts, with a gap between them.
fn spec(file: u32, len: u64) -> BlockSpec {
    let part = |offset, len| PartSpec {
        run: 0,
        offset,
        len,
    };
    let run = Run {
        file,
        offset: 0,
        len,
    };
    BlockSpec {
        runs: [run].into_iter().collect(),
        parts: [part(0, 100), part(128, len - 128)].into_iter().collect(),
    }
}

fn block(index: usize) -> BlockId {
    BlockId::new(index as u32)
}

fn source(client: &Client, hashes: &[ObjectHash]) -> ObjectSource {
    client.source(hashes).expect("opens")
}

fn placed(client: &Client, hashes: &[ObjectHash]) -> Arc<Placed> {
    let placed = client.place(&source(client, hashes));
    placed.expect("the node answers").expect("it is near")
}

/// Slots of blocks, and what is known of those.
struct Blocks {
    table: Arc<SlotTable>,
    sums: SumStore,
}

impl Blocks {
    fn new(count: usize) -> Self {
        Self {
            table: block_table(count),
            sums: SumStore::default(),
        }
    }

    fn publish(&self, placed: &Placed, index: usize, len: usize) -> Result<bool, MoveError> {
        let spec = spec(index as u32, len as u64);
        placed.publish(&self.table, block(index), &spec, &self.sums)
    }

    fn pin(&self, index: usize) -> ReadLease {
        self.table.pin(slot_of(block(index))).expect("ready")
    }

    fn state(&self, index: usize) -> State {
        self.table.state(slot_of(block(index)))
    }

    fn evict(&self, index: usize) {
        assert!(self.table.evict(slot_of(block(index))).is_some());
    }
}

fn reads(lease: &ReadLease, bytes: &[u8]) -> bool {
    lease.part(0) == &bytes[..100] && lease.part(1) == &bytes[128..]
}

/// Bytes of the node's memory that hold something.
fn used(node: &Node) -> u64 {
    node.stat().mem_used
}

#[test]
fn many_objects_are_read_where_they_were_put() {
    let node = node(64 * MIB);
    let client = client(&node);
    // More than one request names, some of them twice, of all lengths.
    let objects: Vec<_> = (0..2300)
        .map(|i| content(i % 2100, 200 + (i % 2100) as usize * 7))
        .collect();
    let put = |bytes: &Vec<u8>| client.put_object(bytes).expect("put");
    let hashes: Vec<_> = objects.iter().map(put).collect();
    let before = used(&node);
    let placed = placed(&client, &hashes);
    let whole: usize = objects.iter().map(Vec::len).sum();
    assert_eq!(placed.bytes(), whole as u64);
    let blocks = Blocks::new(objects.len());
    for (index, bytes) in objects.iter().enumerate() {
        assert!(blocks.publish(&placed, index, bytes.len()).expect("sound"));
        assert!(!blocks.publish(&placed, index, bytes.len()).expect("there"));
        let expected = sums_of(&spec(0, bytes.len() as u64), bytes);
        assert_eq!(blocks.sums.get(block(index)), Some(expected));
    }
    drop(placed);
    for (index, bytes) in objects.iter().enumerate() {
        assert!(reads(&blocks.pin(index), bytes), "object {index}");
    }
    assert_eq!(used(&node), before, "nothing was copied");
}

#[test]
fn wrong_checksums_are_damage_and_right_ones_are_looked_at_once() {
    let node = node(8 * MIB);
    let client = client(&node);
    let bytes = content(1, 3 << 20);
    let hash = client.put_object(&bytes).expect("put");
    let placed = placed(&client, &[hash]);
    let blocks = Blocks::new(1);
    let good = sums_of(&spec(0, 3 << 20), &bytes);
    let mut bad = good.to_vec();
    bad[2] ^= 1;
    blocks.sums.replace(block(0), bad.clone().into());
    let error = blocks.publish(&placed, 0, 3 << 20).expect_err("damage");
    assert!(matches!(error, MoveError::Checksum { .. }) && error.is_damage());
    assert!(error.to_string().contains(&hash.to_string()), "{error}");
    assert_eq!(blocks.state(0), State::Absent);
    blocks.sums.replace(block(0), good);
    assert!(blocks.publish(&placed, 0, 3 << 20).expect("sound"));
    blocks.evict(0);
    // Had it been read again, this would be damage.
    blocks.sums.replace(block(0), bad.into());
    assert!(blocks.publish(&placed, 0, 3 << 20).expect("was checked"));
    assert!(reads(&blocks.pin(0), &bytes));
}

#[test]
fn what_is_not_one_run_of_one_object_is_refused() {
    let node = node(MIB);
    let client = client(&node);
    let hash = client.put_object(&content(1, 5000)).expect("put");
    let placed = placed(&client, &[hash]);
    let blocks = Blocks::new(1);
    let with = |change: &dyn Fn(&mut BlockSpec)| {
        let mut spec = spec(0, 5000);
        change(&mut spec);
        spec
    };
    let wrong = [
        with(&|spec| spec.runs.push(spec.runs[0])),
        with(&|spec| spec.runs.clear()),
        with(&|spec| spec.runs[0].file = 1),
        with(&|spec| spec.runs[0].len = 5001),
        with(&|spec| spec.runs[0].offset = 1),
        with(&|spec| spec.runs[0].offset = u64::MAX),
        with(&|spec| spec.parts[1].run = 1),
        with(&|spec| spec.parts[1].len += 1),
        with(&|spec| spec.parts[1].offset = u64::MAX),
    ];
    for spec in wrong {
        let outcome = placed.publish(&blocks.table, block(0), &spec, &blocks.sums);
        let error = outcome.expect_err("it cannot be placed");
        assert!(matches!(error, MoveError::Unplaced { .. }), "{spec:?}");
        assert_eq!(blocks.state(0), State::Absent);
    }
    // A run in the middle of its object is one.
    let middle = with(&|spec| {
        (spec.runs[0].offset, spec.runs[0].len) = (7, 4000);
        spec.parts[1].len = 4000 - 128;
    });
    let outcome = placed.publish(&blocks.table, block(0), &middle, &blocks.sums);
    assert!(outcome.expect("inside"));
    assert!(reads(&blocks.pin(0), &content(1, 5000)[7..4007]));
}

#[test]
fn what_is_removed_or_replaced_stays_while_it_is_read() {
    let node = node(4 * MIB);
    let client = client(&node);
    let bytes = content(1, 3 << 20);
    let hash = client.put_object(&bytes).expect("put");
    client.set_name("model", hash, &[]).expect("name");
    let placed = placed(&client, &[hash]);
    let blocks = Blocks::new(1);
    assert!(blocks.publish(&placed, 0, bytes.len()).expect("sound"));
    let other = client.put_object(&content(2, 1 << 20)).expect("put");
    client.set_name("model", other, &[]).expect("replaced");
    client.remove("model").expect("removed");
    assert!(!client.has(hash).expect("has"));
    assert_eq!(used(&node), 3 * MIB, "the node says so");
    for seed in 0..4 {
        client.put_object(&content(seed, 1 << 20)).expect("room");
        let refused = client.put_object(&content(seed, 2 << 20));
        assert!(refused.is_err_and(|error| error.is_capacity()));
        assert!(reads(&blocks.pin(0), &bytes));
    }
    drop(placed);
    let refused = client.put_object(&content(9, 2 << 20));
    assert!(refused.is_err(), "the slot still reads");
    assert!(reads(&blocks.pin(0), &bytes));
    blocks.evict(0);
    wait_until(|| client.put_object(&content(9, 2 << 20)).is_ok());
}

#[test]
fn what_is_read_is_not_demoted_and_what_is_on_disk_is_not_placed() {
    let folder = tempfile::tempdir().expect("temp folder");
    let node = Node::start(NodeOptions {
        disk: Some((folder.path().to_owned(), 64 * MIB)),
        ..options(4 * MIB)
    });
    let node = node.expect("a node starts");
    let client = client(&node);
    let bytes = content(1, 2 << 20);
    let hash = client.put_object(&bytes).expect("put");
    let small = client.put_object(&content(2, 1 << 20)).expect("put");
    let placed = placed(&client, &[hash]);
    let blocks = Blocks::new(1);
    assert!(blocks.publish(&placed, 0, bytes.len()).expect("sound"));
    // The pinned one is the oldest, and the largest.
    client.put_object(&content(3, 2 << 20)).expect("put");
    assert_eq!(node.stat().demoted, 1);
    let far = source(&client, &[hash, small]);
    assert!(client.place(&far).expect("the node answers").is_none());
    let refused = client.put_object(&content(4, 3 << 20));
    assert!(refused.is_err_and(|error| error.is_capacity()));
    assert!(reads(&blocks.pin(0), &bytes));
    drop(placed);
    blocks.evict(0);
    wait_until(|| client.put_object(&content(4, 3 << 20)).is_ok());
    let far = source(&client, &[hash]);
    assert!(client.place(&far).expect("the node answers").is_none());
    assert!(client.get_object(hash).expect("get") == bytes);
}

#[test]
fn a_node_that_stops_leaves_the_bytes() {
    let mut node = node(8 * MIB);
    let client = client(&node);
    let bytes = content(1, 5 << 20);
    let hash = client.put_object(&bytes).expect("put");
    let placed = placed(&client, &[hash]);
    let blocks = Blocks::new(1);
    node.stop();
    drop(node);
    assert!(blocks.publish(&placed, 0, bytes.len()).expect("sound"));
    assert!(reads(&blocks.pin(0), &bytes));
}

#[test]
fn over_tcp_and_from_elsewhere_nothing_is_placed() {
    let ways = [Transport::Best, Transport::Tcp, Transport::Threads];
    let pairs = ways.iter().flat_map(|&node| ways.map(|own| (node, own)));
    for (of_node, own) in pairs {
        let node = Node::start(NodeOptions {
            transport: of_node,
            ..options(MIB)
        });
        let node = node.expect("a node starts");
        let client = Client::connect(&RemoteOptions {
            transport: own,
            ..remote(&node)
        });
        let client = client.expect("connects");
        let hash = client.put_object(&content(1, 5000)).expect("put");
        let found = client.place(&source(&client, &[hash]));
        let is_there = found.expect("the node answers").is_some();
        let is_best = (of_node, own) == (Transport::Best, Transport::Best);
        assert_eq!(is_there, is_best, "{of_node:?} {own:?}");
    }
    // A forwarder has another port.
    let node = node(MIB);
    let link = crate::link::CutLink::to(node.address());
    let client = Client::connect(&RemoteOptions::new(link.address.to_string()));
    let client = client.expect("connects");
    let hash = client.put_object(&content(1, 5000)).expect("put");
    let found = client.place(&source(&client, &[hash]));
    assert!(found.expect("the node answers").is_none());
}

#[test]
fn another_start_of_the_node_has_nothing_placed() {
    let old = node(MIB);
    let before = client(&old);
    let hash = before.put_object(&content(1, 5000)).expect("put");
    let held = source(&before, &[hash]);
    let capability = before.open(hash).expect("open");
    let address = old.address();
    drop(old);
    let new = Node::start(NodeOptions::new(address, MIB)).expect("the port is free");
    let error = before.place(&held).expect_err("it was restarted");
    assert!(matches!(error, RemoteError::Restarted { .. }), "{error}");
    let again = client(&new);
    again.put_object(&content(1, 5000)).expect("put");
    assert!(again.place(&held).expect("the node answers").is_none());
    let mut raw = Raw::greeted(address);
    raw.ask(&Request::Place {
        ticket: None,
        capabilities: vec![capability],
    });
    let answer = raw.answer().expect("an answer");
    assert_eq!(answer, Reply::Refused(Refusal::Stale));
}

/// A child process that is killed and collected whatever happens.
struct Running(Child);

impl Running {
    /// Starts this binary to read from the node; `before` is what starts it.
    fn start(node: &Node, before: &[&str]) -> Self {
        let binary = std::env::current_exe().expect("this program has a path");
        let binary = binary.display().to_string();
        let own = [binary.as_str(), "placed::child", "--exact", "--nocapture"];
        let words: Vec<&str> = before.iter().copied().chain(own).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .env(ADDRESS, node.address().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("starts"))
    }

    /// The rest of the line that begins with `larder:`.
    fn says(&mut self) -> String {
        let out = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        let mut lines = out.lines().map_while(Result::ok);
        let said = lines.find_map(|line| Some(line.split_once("larder: ")?.1.to_owned()));
        said.expect("it says something")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The life of a child; without an address there is nothing to test.
#[test]
fn child() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let client = Client::connect(&RemoteOptions::new(address)).expect("connects");
    let bytes = content(1, 3 << 20);
    let found = client.place(&source(&client, &[ObjectHash::of(&bytes)]));
    let Some(placed) = found.expect("the node answers") else {
        println!("larder: nothing");
        return;
    };
    let blocks = Blocks::new(1);
    assert!(blocks.publish(&placed, 0, bytes.len()).expect("sound"));
    assert!(reads(&blocks.pin(0), &bytes));
    println!("larder: reads");
    // Until it is killed.
    let _ = std::io::stdin().read(&mut [0]);
}

/// A node with the object that children read, which nothing keeps but they.
fn of_children() -> (Node, Arc<Client>) {
    let node = node(4 * MIB);
    let client = client(&node);
    client.put_object(&content(1, 3 << 20)).expect("put");
    (node, client)
}

#[test]
fn who_is_killed_lets_go() {
    let (node, client) = of_children();
    let mut child = Running::start(&node, &[]);
    assert_eq!(child.says(), "reads");
    let refused = client.put_object(&content(2, 2 << 20));
    assert!(refused.is_err_and(|error| error.is_capacity()));
    drop(child);
    wait_until(|| client.put_object(&content(2, 2 << 20)).is_ok());
}

#[test]
fn another_user_gets_nothing_and_holds_nothing() {
    let (node, client) = of_children();
    let own = std::fs::metadata("/proc/self").expect("procfs");
    let words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let mut probe = Command::new(words[0]);
    let binary = std::env::current_exe().expect("this program has a path");
    probe.args(&words[1..]).arg(binary).arg("--list");
    let may_run = probe.output().is_ok_and(|output| output.status.success());
    if own.uid() != 0 || !may_run {
        println!("skipped: only root runs this program as another user");
        return;
    }
    let mut child = Running::start(&node, &words);
    assert_eq!(child.says(), "nothing");
    drop(child);
    assert!(client.usage().expect("stat").content == 1);
}
