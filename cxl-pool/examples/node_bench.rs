//! Gets from a memory node in another process, beside a bare stream between two processes.
//!
//! Run: `cargo run --release -p larder-pool --example node_bench [-- ROUNDS [SIDES]]`
//!
//! The probe streams 512 KiB pieces over one loopback TCP connection with two requests
//! outstanding, from and into the same kind of memory, larger than the caches and walked in turn.
//! Node and probe alternate; figures are medians of the pairs.

use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Check, Client, ObjectHash, RemoteOptions};
use larder_pool::sys::io::{Driver, Op, Verb};
use larder_pool::sys::lease::{Cutter, SlotTable};
use larder_pool::sys::mapping::Mapping;
use larder_pool::sys::net::Transport;
use larder_pool::sys::space::Space;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const PIECE: usize = 512 << 10;
/// Memory on either side, in bytes: far more than the caches.
const SPAN: usize = 1 << 30;
/// Bytes of one measurement.
const WORK: usize = 512 << 20;

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("serve-node") => serve_node(),
        Some("serve-probe") => serve_probe(),
        rounds => {
            let number = |text: Option<&str>, default| {
                text.and_then(|text| text.parse().ok()).unwrap_or(default)
            };
            bench(number(rounds, 9), number(args.next().as_deref(), 3));
        }
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Another process of this program; the address that it prints.
fn start(role: &str) -> (Child, String) {
    let me = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(me)
        .arg(role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("piped");
    BufReader::new(out)
        .read_line(&mut line)
        .expect("an address");
    (child, line.trim().to_owned())
}

/// Ends with its parent.
fn wait_for_end() {
    let _ = std::io::stdin().read(&mut [0]);
}

fn serve_node() {
    let node = Node::start(NodeOptions::new(local(), SPAN as u64 + 64 * MIB as u64));
    let node = node.expect("the node starts");
    println!("{}", node.address());
    wait_for_end();
}

/// Answers each eight bytes with the piece of that number.
fn serve_probe() {
    let listener = TcpListener::bind(local()).expect("bind");
    println!("{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        let memory = memory(SPAN);
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true).expect("no delay");
            let mut number = [0; 8];
            while stream.read_exact(&mut number).is_ok() {
                let at = u64::from_le_bytes(number) as usize * PIECE;
                if stream.write_all(&memory.bytes()[at..at + PIECE]).is_err() {
                    break;
                }
            }
        }
    });
    wait_for_end();
}

/// Memory with bytes in it.
fn memory(len: usize) -> larder_pool::sys::lease::Scratch {
    let space = Space::mapped(Mapping::new(len as u64).expect("memory"));
    let extent = space.alloc_low(len as u64).expect("room");
    let mut scratch = larder_pool::sys::lease::Scratch::new(extent);
    for (index, word) in scratch.bytes_mut().chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(index as u64).wrapping_mul(0x9e37_79b9).to_le_bytes());
    }
    scratch
}

/// Bytes per second of gets of `size` bytes, one after the other.
struct Probe {
    stream: TcpStream,
    memory: larder_pool::sys::lease::Scratch,
    at: usize,
}

impl Probe {
    fn measure(&mut self, size: usize) -> f64 {
        let start = Instant::now();
        for _ in 0..WORK / size {
            let (mut asked, pieces) = (0, size / PIECE);
            for got in 0..pieces {
                while asked < pieces && asked < got + 2 {
                    let number = ((self.at + asked * PIECE) / PIECE) as u64;
                    self.stream.write_all(&number.to_le_bytes()).expect("ask");
                    asked += 1;
                }
                let at = self.at + got * PIECE;
                let target = &mut self.memory.bytes_mut()[at..at + PIECE];
                self.stream.read_exact(target).expect("answer");
            }
            self.at = (self.at + size) % SPAN;
        }
        WORK as f64 / start.elapsed().as_secs_f64()
    }
}

struct NodeSide {
    driver: Box<dyn Driver>,
    /// The local memory, cut front to back, then anew.
    table: std::sync::Arc<SlotTable>,
    space: std::sync::Arc<Space>,
    cutter: Option<(larder_pool::sys::lease::FillLease, Cutter)>,
    objects: usize,
    at: usize,
}

impl NodeSide {
    fn cutter(&mut self) -> &mut Cutter {
        let is_used_up = self
            .cutter
            .as_ref()
            .is_none_or(|(_, cutter)| cutter.left() == 0);
        if is_used_up {
            self.cutter = None;
            let extent = self.space.alloc_low(SPAN as u64).expect("room");
            let mut fill = self.table.begin_fill(0, extent).expect("absent");
            let cutter = fill.cutter();
            self.cutter = Some((fill, cutter));
        }
        let (_, cutter) = self.cutter.as_mut().expect("just made");
        cutter
    }

    /// Gets of `size` bytes in operations of 1 MiB, as a path submits them.
    fn measure(&mut self, size: usize) -> f64 {
        let (start, mut done) = (Instant::now(), Vec::new());
        for _ in 0..WORK / size {
            for part in 0..size / MIB {
                let piece = self.cutter().cut(MIB as u64);
                let op = Op {
                    tag: part as u64,
                    file: (self.at / (16 * MIB) % self.objects) as u32,
                    offset: (self.at % (16 * MIB)) as u64,
                    verb: Verb::Read(piece),
                };
                self.at += MIB;
                assert!(self.driver.submit(op).is_ok(), "16 operations fit");
            }
            let mut left = size / MIB;
            while left > 0 {
                let wait = Duration::from_secs(10);
                self.driver.reap(&mut done, wait).expect("reap");
                for one in done.drain(..) {
                    assert_eq!(one.outcome.expect("get"), MIB);
                    left -= 1;
                }
            }
        }
        WORK as f64 / start.elapsed().as_secs_f64()
    }
}

/// Fills the node with objects of 16 MiB.
fn fill(client: &Client) -> Vec<ObjectHash> {
    let mut bytes = vec![0u8; 16 * MIB];
    (0..SPAN / bytes.len())
        .map(|index| {
            for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
                let value = (at as u64 + 1).wrapping_mul(index as u64 + 0x9e37_79b9);
                word.copy_from_slice(&value.to_le_bytes());
            }
            client.put_object(&bytes).expect("put")
        })
        .collect()
}

fn node_side(address: &str, hashes: &[ObjectHash], check: Check, transport: Transport) -> NodeSide {
    let options = RemoteOptions {
        check,
        transport,
        ..RemoteOptions::new(address)
    };
    let client = Client::connect(&options).expect("connects");
    let (driver, _) = client.read_objects(hashes).expect("opens");
    NodeSide {
        driver,
        table: SlotTable::new(1),
        space: Space::mapped(Mapping::new(SPAN as u64).expect("memory")),
        cutter: None,
        objects: hashes.len(),
        at: 0,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bench(rounds: usize, count: usize) {
    let (mut node, node_address) = start("serve-node");
    let (mut probe_child, probe_address) = start("serve-probe");
    let client = Client::connect(&RemoteOptions::new(&*node_address)).expect("connects");
    let hashes = fill(&client);
    let stream = TcpStream::connect(&probe_address).expect("connects");
    stream.set_nodelay(true).expect("no delay");
    let mut probe = Probe {
        stream,
        memory: memory(SPAN),
        at: 0,
    };
    let side = |check, transport| node_side(&node_address, &hashes, check, transport);
    let mut sides = [
        ("crc, tcp", side(Check::Crc, Transport::Tcp)),
        ("crc, local socket", side(Check::Crc, Transport::Best)),
        ("no crc, tcp", side(Check::Nothing, Transport::Tcp)),
        ("crc, tcp on threads", side(Check::Crc, Transport::Threads)),
    ];
    println!("| get | node | probe | node | node / probe | range |");
    println!("|---:|---|---:|---:|---:|---:|");
    for (name, side) in sides.iter_mut().take(count) {
        for size in [1, 4, 16] {
            let (mut shares, mut probes, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
            // Every page of both memories is there before anything counts.
            for _ in 0..2 {
                probe.measure(size * MIB);
                side.measure(size * MIB);
            }
            for round in 0..rounds {
                let first = (round % 2 == 0).then(|| probe.measure(size * MIB));
                let ours = side.measure(size * MIB);
                let bare = first.unwrap_or_else(|| probe.measure(size * MIB));
                shares.push(ours / bare);
                probes.push(bare / 1e9);
                nodes.push(ours / 1e9);
            }
            let low = shares.iter().copied().fold(f64::INFINITY, f64::min);
            let high = shares.iter().copied().fold(0.0, f64::max);
            println!(
                "| {size} MiB | {name} | {:.2} GB/s | {:.2} GB/s | {:.2} | {low:.2}-{high:.2} |",
                median(probes),
                median(nodes),
                median(shares),
            );
        }
    }
    let _ = (
        node.kill(),
        node.wait(),
        probe_child.kill(),
        probe_child.wait(),
    );
}
