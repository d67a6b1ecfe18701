//! Clients that send nonsense, ask for what is not theirs, or never read. The node answers with a
//! typed error or hangs up, and serves the others as before.

use crate::raw::Raw;
use crate::support::*;
use larder_pool::node::{Exposure, Node, NodeError, NodeOptions};
use larder_pool::remote::{Client, Refusal, RemoteError, RemoteOptions};
use larder_pool::sim::SplitMix;
use larder_pool::wire::capability::{Claim, Signer};
use larder_pool::wire::header::HEADER_BYTES;
use larder_pool::wire::reply::Reply;
use larder_pool::wire::request::{Check, GetRange, Kind, Request};
use std::io::Write;
use std::net::Shutdown;
use std::time::Instant;

fn is_served(node: &Node) {
    let client = client(node);
    let bytes = content(99, 70_000);
    let hash = client.put_object(&bytes).expect("put");
    assert!(client.get_object(hash).expect("get") == bytes);
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let node = node(16 * MIB);
    let good = Request::Stat.encode(7, 0);
    let mut random = SplitMix(5);
    let mut hurt: Vec<Vec<u8>> = (0..64)
        .map(|_| {
            let mut bytes = good.clone();
            let at = random.next_u64() as usize % HEADER_BYTES;
            bytes[at] ^= 1 << (random.next_u64() % 8);
            bytes
        })
        .collect();
    hurt.push(b"GET / HTTP/1.1\r\nHost: larder.example.org\r\n\r\n".to_vec());
    hurt.push(vec![0xff; 4096]);
    for bytes in hurt {
        let mut raw = Raw::greeted(node.address());
        raw.0.write_all(&bytes).expect("sent");
        let _ = raw.0.shutdown(Shutdown::Write);
        assert!(raw.is_closed());
    }
    is_served(&node);
}

#[test]
fn half_a_frame_is_dropped_with_its_connection() {
    let node = node(16 * MIB);
    for cut in [1, 31, 32, 40] {
        let mut raw = Raw::greeted(node.address());
        let frame = Request::Resolve {
            name: "half".into(),
        }
        .encode(1, 0);
        let cut = cut.min(frame.len() - 1);
        raw.0.write_all(&frame[..cut]).expect("sent");
        raw.0.shutdown(Shutdown::Write).expect("shut");
        assert!(raw.is_closed());
    }
    let mut raw = Raw::greeted(node.address());
    raw.ask(&Request::Grant {
        len: MIB,
        kind: Kind::Lent,
    });
    let Ok(Reply::Granted(capability)) = raw.answer() else {
        unreachable!("there is room");
    };
    let head = Request::Put {
        capability,
        offset: 0,
    }
    .encode(1, 1 << 20);
    raw.0.write_all(&head).expect("sent");
    raw.0.write_all(&vec![1; 1000]).expect("sent");
    raw.0.shutdown(Shutdown::Write).expect("shut");
    assert!(raw.is_closed());
    wait_until(|| node.stat().mem_used == 0);
    is_served(&node);
}

#[test]
fn requests_out_of_order_are_misuse() {
    let node = node(16 * MIB);
    let mut raw = Raw::connect(node.address());
    raw.ask(&Request::Stat);
    let answer = raw.answer().expect("an answer");
    assert_eq!(answer, Reply::Refused(Refusal::Unauthorised));
    assert!(raw.is_closed());

    let mut raw = Raw::greeted(node.address());
    raw.ask(&Request::Hello { nonce: [2; 32] });
    assert_eq!(
        raw.answer().expect("an answer"),
        Reply::Refused(Refusal::Misuse)
    );

    raw.ask(&Request::Grant {
        len: MIB,
        kind: Kind::Lent,
    });
    let Ok(Reply::Granted(capability)) = raw.answer() else {
        unreachable!("there is room");
    };
    let refused = |raw: &mut Raw, refusal| {
        assert_eq!(raw.answer().expect("an answer"), Reply::Refused(refusal));
    };
    raw.ask(&Request::Commit {
        capability,
        crcs: vec![0],
    });
    refused(&mut raw, Refusal::Mismatch);
    let put = |offset| Request::Put { capability, offset };
    raw.put(&put(0), &[1; 5000]);
    assert_eq!(raw.answer().expect("an answer"), Reply::Done);
    raw.put(&put(4000), &[2; 5000]);
    refused(&mut raw, Refusal::Misuse);
    raw.put(&put(MIB - 1), &[2; 2]);
    refused(&mut raw, Refusal::Misuse);
    raw.put(&put(u64::MAX), &[2; 2]);
    refused(&mut raw, Refusal::Misuse);
    // The connection is still in step, and the grant still whole.
    raw.put(&put(5000), &vec![3; MIB as usize - 5000]);
    assert_eq!(raw.answer().expect("an answer"), Reply::Done);
    raw.ask(&Request::Commit {
        capability,
        crcs: vec![0],
    });
    refused(&mut raw, Refusal::Mismatch);
    raw.put(&put(0), &[1; 10]);
    refused(&mut raw, Refusal::Stale);
    assert_eq!(node.stat().mem_used, 0);
    is_served(&node);
}

#[test]
fn forged_and_stale_capabilities_read_nothing() {
    let node = node(16 * MIB);
    let client = client(&node);
    let hash = client.put_object(&content(1, 100_000)).expect("put");
    let good = client.open(hash).expect("open");
    let get = |capability| {
        Request::Get(vec![GetRange {
            id: 9,
            capability,
            offset: 0,
            len: 4096,
            check: Check::Crc,
        }])
    };
    let mut raw = Raw::greeted(node.address());
    raw.ask(&get(good));
    assert!(matches!(raw.answer(), Ok(Reply::Data(_))));

    let mut longer = good;
    longer.length += 4096;
    raw.ask(&get(longer));
    assert_eq!(
        raw.answer().expect("an answer"),
        Reply::Refused(Refusal::Forged)
    );
    let mut other = good;
    other.incarnation ^= 1;
    raw.ask(&get(other));
    assert_eq!(
        raw.answer().expect("an answer"),
        Reply::Refused(Refusal::Stale)
    );
    let stranger = Signer::new(good.pool, good.incarnation, [0; 32]).sign(Claim {
        extent: good.extent,
        generation: good.generation,
        length: good.length,
        crc: good.crc,
        tenant: 0,
    });
    raw.ask(&get(stranger));
    assert_eq!(
        raw.answer().expect("an answer"),
        Reply::Refused(Refusal::Forged)
    );
    client.set_name("x", hash, &[]).expect("name");
    client.remove("x").expect("remove");
    raw.ask(&get(good));
    assert_eq!(
        raw.answer().expect("an answer"),
        Reply::Refused(Refusal::Stale)
    );
    // Another object in the same place is not what the old handle stands for.
    client.put_object(&content(2, 100_000)).expect("put");
    raw.ask(&get(good));
    assert_eq!(
        raw.answer().expect("an answer"),
        Reply::Refused(Refusal::Stale)
    );
}

#[test]
fn a_range_outside_its_object_ends_the_connection() {
    let node = node(16 * MIB);
    let client = client(&node);
    let hash = client.put_object(&content(1, 100_000)).expect("put");
    let capability = client.open(hash).expect("open");
    for (offset, len) in [(100_000, 1), (0, 100_001), (u64::MAX, 2), (0, 0)] {
        let mut raw = Raw::greeted(node.address());
        let range = GetRange {
            id: 1,
            capability,
            offset,
            len,
            check: Check::Crc,
        };
        raw.ask(&Request::Get(vec![range]));
        assert!(raw.is_closed());
    }
    is_served(&node);
}

#[test]
fn who_never_reads_stops_only_itself() {
    each_transport(|transport| {
        let node = Node::start(NodeOptions {
            transport,
            ..options(64 * MIB)
        });
        let node = node.expect("a node starts");
        let busy = client(&node);
        let bytes = content(3, 16 << 20);
        let hash = busy.put_object(&bytes).expect("put");
        let capability = busy.open(hash).expect("open");
        let before = larder_pool::sys::limits::resident_bytes();
        let mut deaf: Vec<Raw> = (0..8).map(|_| Raw::greeted(node.address())).collect();
        let range = GetRange {
            id: 1,
            capability,
            offset: 0,
            len: 1 << 20,
            check: Check::Crc,
        };
        let request = Request::Get(vec![range; 64]).encode(1, 0);
        for raw in &mut deaf {
            raw.0.set_nonblocking(true).expect("set");
            for _ in 0..200 {
                // The node stops reading long before this is all sent.
                let _ = raw.0.write(&request);
            }
        }
        let start = Instant::now();
        for _ in 0..5 {
            assert!(busy.get_object(hash).expect("get") == bytes);
        }
        assert!(start.elapsed() < WAIT, "others are served");
        let grown = larder_pool::sys::limits::resident_bytes().saturating_sub(before);
        assert!(
            grown < 64 << 20,
            "{grown} bytes for clients that never read"
        );
    });
}

#[test]
fn the_token_is_needed_and_never_sent() {
    let node = Node::start(NodeOptions {
        token: Some("secret\n".to_owned()),
        ..options(16 * MIB)
    })
    .expect("a node starts");
    let with = |token: Option<&str>| {
        Client::connect(&RemoteOptions {
            token: token.map(str::to_owned),
            ..remote(&node)
        })
    };
    with(Some("secret"))
        .expect("connects")
        .info()
        .expect("answers");
    for wrong in [None, Some("Secret"), Some("")] {
        let error = with(wrong).expect_err("the token is wrong");
        let is_unauthorised = matches!(
            error,
            RemoteError::Refused {
                refusal: Refusal::Unauthorised,
                ..
            }
        );
        assert!(is_unauthorised, "{error}");
    }
    let mut raw = Raw::greeted(node.address());
    raw.ask(&Request::Stat);
    assert_eq!(
        raw.answer().expect("an answer"),
        Reply::Refused(Refusal::Unauthorised)
    );
    assert!(raw.is_closed());
    let open = Node::start(options(MIB)).expect("a node starts");
    let error = Client::connect(&RemoteOptions {
        token: Some("secret".to_owned()),
        ..remote(&open)
    });
    assert!(matches!(error, Err(RemoteError::Impostor { .. })));
}

#[test]
fn an_open_address_needs_a_token_or_a_decision() {
    let listen = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    let exposed = Node::start(NodeOptions {
        listen,
        ..options(MIB)
    })
    .err();
    assert!(matches!(exposed, Some(NodeError::Exposed { .. })));
    let exposure = Exposure::Anybody;
    let insecure = NodeOptions {
        listen,
        exposure,
        ..options(MIB)
    };
    Node::start(insecure).expect("it was meant");
    let token = Some("t".to_owned());
    Node::start(NodeOptions {
        listen,
        token,
        ..options(MIB)
    })
    .expect("it is guarded");
}
