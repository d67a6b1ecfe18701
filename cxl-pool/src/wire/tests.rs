//! Frames round trip, and no mutation of one panics or passes for another.

use super::capability::{Capability, Claim, Signer, Standing};
use super::header::{DATA_MAX, HEADER_BYTES, Header, Op, VERSION};
use super::reply::{NamedModel, Refusal, Reply, Stat, Welcome};
use super::request::{Check, GetRange, Kind, Request};
use super::ticket::Ticket;
use super::{ObjectHash, WireError, fuzz};
use crate::crc::crc32c;
use crate::sim::SplitMix;

fn capability() -> Capability {
    Signer::new(7, 8, [9; 32]).sign(Claim {
        extent: 1,
        generation: 2,
        length: 1 << 20,
        crc: 3,
        tenant: 0,
    })
}

fn requests() -> Vec<Request> {
    let (capability, hash) = (capability(), ObjectHash::of(b"content"));
    let range = GetRange {
        id: 5,
        capability,
        offset: 4096,
        len: 8192,
        check: Check::Crc,
    };
    let name = || "llama 3".to_owned();
    vec![
        Request::Hello { nonce: [1; 32] },
        Request::Auth { proof: [2; 32] },
        Request::Ping,
        Request::Grant {
            len: 10,
            kind: Kind::Lent,
        },
        Request::Grant {
            len: 10,
            kind: Kind::Content(hash),
        },
        Request::Put {
            capability,
            offset: 5,
        },
        Request::Commit {
            capability,
            crcs: vec![1, 2],
        },
        Request::Get(vec![range; 3]),
        Request::Free { capability },
        Request::Open(vec![hash; 4]),
        Request::Hold(vec![hash; 2]),
        Request::SetName {
            name: name(),
            root: hash,
        },
        Request::Names { after: name() },
        Request::Resolve { name: name() },
        Request::RemoveName { name: name() },
        Request::Stat,
        Request::Place {
            ticket: None,
            capabilities: vec![capability; 3],
        },
        Request::Place {
            ticket: Ticket::new([4; 16]),
            capabilities: Vec::new(),
        },
    ]
}

fn replies() -> Vec<Reply> {
    let (capability, hash) = (capability(), ObjectHash::of(b"content"));
    let model = NamedModel {
        name: "a".to_owned(),
        hash,
        bytes: 12,
    };
    vec![
        Reply::Welcome(Welcome {
            nonce: [1; 32],
            pool: 1,
            incarnation: 2,
            mem_bytes: 3,
            disk_bytes: 4,
            lease_ms: 5,
            wants_token: true,
        }),
        Reply::Done,
        Reply::Proof([3; 32]),
        Reply::Granted(capability),
        Reply::Committed(capability),
        Reply::Data(vec![1, 2, 3]),
        Reply::Opened(vec![Some(capability), None]),
        Reply::NameList(vec![model; 2]),
        Reply::Resolved(None),
        Reply::Resolved(Some(hash)),
        Reply::Stats(Stat::default()),
        Reply::Placed {
            ticket: Ticket::new([5; 16]).expect("not zero"),
            offsets: vec![0, 4096, 1 << 40],
        },
        Reply::Refused(Refusal::NotInMemory),
        Reply::Refused(Refusal::Unsupported),
        Reply::Refused(Refusal::Full { needed: 2, free: 1 }),
        Reply::Refused(Refusal::Stale),
        Reply::Refused(Refusal::Limit { limit: 4 }),
    ]
}

fn frames() -> Vec<Vec<u8>> {
    let asked = requests().into_iter().map(|request| request.encode(11, 0));
    let answered = replies().into_iter().map(|reply| reply.encode(12, 0));
    asked.chain(answered).collect()
}

#[test]
fn every_frame_comes_back_as_it_was() {
    for request in requests() {
        let bytes = request.encode(11, 0);
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a header");
        let header = Header::decode(header).expect("ours");
        assert_eq!((header.id, header.op), (11, request.op()));
        assert_eq!(Request::decode(&header, body), Ok(request));
    }
    for reply in replies() {
        let bytes = reply.encode(12, 0);
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a header");
        let header = Header::decode(header).expect("ours");
        assert!(header.op.is_reply());
        assert_eq!(Reply::decode(&header, body), Ok(reply));
    }
}

/// Every frame under seeded flips, cuts and splices, with its checksums broken and mended.
#[test]
fn mutated_frames_never_panic() {
    let (frames, mut random) = (frames(), SplitMix(0x1a4d));
    let mut passed = 0;
    for round in 0..60_000 {
        let pick = |random: &mut SplitMix| random.next_u64() as usize % frames.len();
        let mut data = frames[pick(&mut random)].clone();
        for _ in 0..=random.next_u64() % 4 {
            let at = random.next_u64() as usize % data.len();
            match random.next_u64() % 4 {
                0 => data[at] ^= 1 << (random.next_u64() % 8),
                1 => data[at] = [0, 1, 0x7f, 0xff][random.next_u64() as usize % 4],
                2 => data.truncate(at.max(1)),
                _ => data.extend_from_slice(&frames[pick(&mut random)][HEADER_BYTES..]),
            }
        }
        if round % 2 == 0 {
            fuzz::mend(&mut data);
        }
        passed += usize::from(fuzz::request(&data)) + usize::from(fuzz::reply(&data));
    }
    assert!(passed > 100, "mended frames get through: {passed}");
}

#[test]
fn lengths_are_bounded_before_anything_is_allocated() {
    let check = |change: &dyn Fn(&mut [u8]), expected: fn(&WireError) -> bool| {
        let mut bytes = Request::Ping.encode(1, 0);
        change(&mut bytes);
        let crc = crc32c(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        let header = bytes.first_chunk::<HEADER_BYTES>().expect("a header");
        let error = Header::decode(header).expect_err("it is refused");
        assert!(expected(&error), "{error}");
    };
    check(&|bytes| bytes[0] = b'X', |e| *e == WireError::Magic);
    check(
        &|bytes| bytes[4] = VERSION as u8 + 1,
        |e| matches!(e, WireError::Version { found } if *found == VERSION + 1),
    );
    check(&|bytes| bytes[6] = 99, |e| *e == WireError::Op { op: 99 });
    check(
        &|bytes| bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes()),
        |e| matches!(e, WireError::TooLong { what: "body", .. }),
    );
    check(
        &|bytes| bytes[20..24].copy_from_slice(&1u32.to_le_bytes()),
        |e| matches!(e, WireError::TooLong { max: 0, .. }),
    );
    check(
        &|bytes| {
            bytes[6] = Op::Put as u8;
            bytes[20..24].copy_from_slice(&(DATA_MAX + 1).to_le_bytes());
        },
        |e| {
            matches!(
                e,
                WireError::TooLong {
                    what: "data block",
                    ..
                }
            )
        },
    );
}

#[test]
fn a_changed_capability_is_forged_and_another_start_makes_it_stale() {
    let (signer, good) = (Signer::new(7, 8, [9; 32]), capability());
    assert_eq!(signer.check(&good, 0), Standing::Good);
    assert_eq!(signer.check(&good, 1), Standing::Forged);
    let mut bad: Capability = good;
    bad.length += 1;
    assert_eq!(signer.check(&bad, 0), Standing::Forged);
    assert_eq!(Signer::new(7, 8, [8; 32]).check(&good, 0), Standing::Forged);
    assert_eq!(Signer::new(7, 9, [9; 32]).check(&good, 0), Standing::Stale);
}
