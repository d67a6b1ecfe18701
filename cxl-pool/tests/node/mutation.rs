//! Seeded mutations of whole conversations, through the doors of the fuzz targets.

use crate::support::*;
use larder_pool::node::fuzz::{session, signer};
use larder_pool::remote::ObjectHash;
use larder_pool::remote::fuzz::{LEN, driver};
use larder_pool::sim::SplitMix;
use larder_pool::wire::capability::{Capability, Claim};
use larder_pool::wire::fuzz::mend;
use larder_pool::wire::reply::{Refusal, Reply};
use larder_pool::wire::request::{Check, GetRange, Kind, Request};
use larder_pool::wire::sums::{Sums, commit_crcs};

const ROUNDS: usize = 8000;

fn capability() -> Capability {
    signer().sign(Claim {
        extent: 0,
        generation: 1,
        length: 5000,
        crc: 0,
        tenant: 0,
    })
}

/// What clients say, as frames with their data.
fn requests() -> Vec<(Vec<u8>, Vec<u8>)> {
    let capability = capability();
    let bytes = content(1, 5000);
    let hash = ObjectHash::of(&bytes);
    let name = || "n".to_owned();
    let range = GetRange {
        id: 3,
        capability,
        offset: 0,
        len: 5000,
        check: Check::Crc,
    };
    let all = [
        Request::Grant {
            len: 5000,
            kind: Kind::Lent,
        },
        Request::Grant {
            len: 5000,
            kind: Kind::Content(hash),
        },
        Request::Put {
            capability,
            offset: 0,
        },
        Request::Commit {
            capability,
            crcs: commit_crcs(&bytes),
        },
        Request::Get(vec![range]),
        Request::Free { capability },
        Request::Open(vec![hash]),
        Request::Hold(vec![hash]),
        Request::SetName {
            name: name(),
            root: hash,
        },
        Request::Names {
            after: String::new(),
        },
        Request::Resolve { name: name() },
        Request::RemoveName { name: name() },
        Request::Place {
            ticket: None,
            capabilities: vec![capability],
        },
        Request::Stat,
        Request::Ping,
    ];
    all.into_iter()
        .map(|request| {
            let has_data = matches!(request, Request::Put { .. });
            let data = if has_data { bytes.clone() } else { Vec::new() };
            (request.encode(1, data.len() as u32), data)
        })
        .collect()
}

/// One to eight frames, some of them hurt, behind `start`.
fn conversation(random: &mut SplitMix, frames: &[(Vec<u8>, Vec<u8>)], start: &[u8]) -> Vec<u8> {
    let mut said = start.to_vec();
    let is_ordered = random.chance(0.5);
    for step in 0..=random.next_u64() % 8 {
        let any = random.next_u64();
        let pick = if is_ordered { step + 1 } else { any };
        let (mut head, data) = frames[pick as usize % frames.len()].clone();
        if random.chance(0.3) {
            let at = random.next_u64() as usize % head.len();
            head[at] ^= 1 << (random.next_u64() % 8);
            if random.chance(0.8) {
                mend(&mut head);
            }
        }
        said.extend_from_slice(&head);
        said.extend_from_slice(&data);
    }
    if random.chance(0.2) {
        said.truncate(random.next_u64() as usize % (said.len() + 1));
    }
    said
}

#[test]
fn no_conversation_hurts_a_node() {
    let hello = Request::Hello { nonce: [1; 32] }.encode(0, 0);
    let (frames, mut random) = (requests(), SplitMix(0xf0));
    let mut stored = 0;
    for _ in 0..ROUNDS {
        stored += session(&conversation(&mut random, &frames, &hello));
    }
    assert!(stored > 0, "some conversations make sense");
}

#[test]
fn no_answer_hurts_a_client() {
    let bytes = content(2, LEN as usize);
    let sums = Sums::of(&bytes);
    let data = |id, offset: usize, len: usize| {
        let range = bytes[offset..offset + len].to_vec();
        let crcs = sums.of_range(offset as u64, &range);
        (Reply::Data(crcs).encode(id, len as u32), range)
    };
    let good = [data(1, 0, 4096), data(2, 4096, 8192)];
    let whole: Vec<u8> = good
        .iter()
        .flat_map(|(head, data)| [head.as_slice(), data].concat())
        .collect();
    assert_eq!(driver(&whole), 2);
    let mut frames = good.to_vec();
    let refused = Reply::Refused(Refusal::Stale);
    for reply in [Reply::Done, refused, Reply::Granted(capability())] {
        frames.extend((0..3).map(|id| (reply.encode(id, 0), Vec::new())));
    }
    let mut random = SplitMix(0xf1);
    for _ in 0..ROUNDS {
        driver(&conversation(&mut random, &frames, &[]));
    }
}
