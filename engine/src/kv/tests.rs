//! A sequence over a simulated lower tier: what is read is what was appended, wherever it was.

use super::*;
use crate::home::{Home, Homes};
use larder_pool::clock::VirtualClock;
use larder_pool::mover::{Mover, PathParts};
use larder_pool::sim::{Link, MemoryFiles, SimDriver, SplitMix};
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::mapping::Mapping;
use larder_pool::sys::space::Space;
use larder_pool::table::{block_table, home_slot};
use larder_pool::units::{BytesPerSec, PathId};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LAYERS: usize = 3;
const SLICE: u64 = 5000;
const BLOCKS: usize = 12;

struct Bench {
    mover: Arc<Mover>,
    space: Arc<Space>,
    home: Arc<Space>,
    files: MemoryFiles,
    layout: KvLayout,
}

fn bench(frames: u64) -> Bench {
    let layout = KvLayout {
        layers: LAYERS,
        slice_bytes: SLICE,
        first_block: 3,
    };
    let space = Space::mapped(Mapping::new(frames * layout.frame_bytes()).expect("memory"));
    let files = MemoryFiles::new(vec![vec![0; 1 << 20]]);
    let clock = VirtualClock::default();
    let link = Link {
        latency_ns: 1000,
        bandwidth: BytesPerSec::new(1e9).expect("a rate"),
        error: 0.0,
        short: 0.0,
        flip: 0.0,
    };
    let path = |name: &str, seed| PathParts {
        name: name.to_owned(),
        driver: Box::new(SimDriver::new(files.clone(), clock.clone(), link, seed)),
        source: Box::new(files.clone()),
        limit: None,
        bounce: None,
        disk: None,
    };
    let paths = vec![path("dram>sim", 1), path("sim>dram", 2)];
    let table = block_table(3 + BLOCKS * LAYERS);
    let mover = Arc::new(Mover::start(table, paths, Arc::new(clock.clone())).expect("threads"));
    Bench {
        mover,
        space,
        home: Space::counted(1 << 20),
        files,
        layout,
    }
}

impl Bench {
    fn sequence(&self, frames: usize, stream: usize) -> Sequence {
        let paths = (PathId::new(0), PathId::new(1));
        let home = Home::new("sim", Arc::clone(&self.home), paths);
        let homes = Homes::new(vec![home], Arc::clone(&self.mover));
        let space = Arc::clone(&self.space);
        let mut sequence = Sequence::new(self.layout.clone(), homes, space, (frames, stream));
        sequence.plan(frames, 1000).expect("empty");
        sequence
    }
}

/// What token `token` of `layer` looks like in its slice.
fn mark(layer: usize, token: usize) -> u8 {
    (layer * 101 + token * 7 + token / 64) as u8
}

/// One step: appends `count` tokens on every layer after looking at every slice.
fn step(sequence: &mut Sequence, count: usize) -> Result<(), KvError> {
    sequence.reserve(sequence.len() + count)?;
    for layer in 0..LAYERS {
        let full = sequence.full(layer);
        for block in 0..full {
            let at = SliceAt { layer, block };
            let check = |bytes: &[u8]| {
                for (token, byte) in bytes[..SLICE_TOKENS].iter().enumerate() {
                    assert_eq!(*byte, mark(layer, block * SLICE_TOKENS + token), "{at:?}");
                }
            };
            if let Some(lease) = sequence.resident(at) {
                check(lease.part(0));
            } else {
                let lease = sequence.streamed(at)?.expect("a frame is free");
                check(lease.part(0));
                drop(lease);
                sequence.stream_done(at)?;
            }
        }
        let mut tails = sequence.lend_tails(layer);
        for token in sequence.len()..sequence.len() + count {
            let tail = &mut tails[token / SLICE_TOKENS - full];
            tail.bytes_mut()[token % SLICE_TOKENS] = mark(layer, token);
        }
        sequence.take_back(layer, tails);
    }
    sequence.advance(count);
    Ok(())
}

#[test]
fn slices_that_leave_come_back_in_order() {
    let bench = bench(LAYERS as u64 + 2);
    let mut sequence = bench.sequence(LAYERS + 2, 2);
    while sequence.len() < BLOCKS * SLICE_TOKENS {
        step(&mut sequence, 4).expect("there is a home");
    }
    assert!(bench.space.peak_bytes() <= bench.space.len());
    assert!(bench.home.used_bytes() >= (BLOCKS as u64 - 2) * bench.layout.block_bytes());
    drop(sequence);
    assert_eq!(bench.space.used_bytes(), 0);
    let start = Instant::now();
    while bench.home.used_bytes() > 0 {
        assert!(start.elapsed().as_secs() < 10, "what nobody needs is freed");
        std::thread::yield_now();
    }
    assert_eq!(bench.files.sealed_count(), 0);
}

#[test]
fn what_a_failed_read_still_holds_is_waited_for() {
    let bench = bench(LAYERS as u64 + 2);
    let mut sequence = bench.sequence(LAYERS + 2, 2);
    while sequence.len() < BLOCKS * SLICE_TOKENS {
        step(&mut sequence, 4).expect("there is a home");
    }
    let blocks = (3..3 + BLOCKS * LAYERS).map(|block| BlockId::new(block as u32));
    let table = bench.mover.table();
    let held: Vec<ReadLease> = blocks
        .filter_map(|id| table.pin(home_slot(id, 0)))
        .collect();
    assert!(!held.is_empty(), "slices have left");
    let (start, long) = (Instant::now(), Duration::from_millis(20));
    let (never, late) = std::sync::mpsc::channel::<()>();
    let later = std::thread::spawn(move || {
        let _ = late.recv_timeout(long);
        drop(held);
    });
    drop(sequence);
    assert!(start.elapsed() >= long, "nothing is freed under them");
    later.join().expect("it only waits");
    drop(never);
}

#[test]
fn a_full_home_is_one_clear_error() {
    let bench = bench(LAYERS as u64 + 2);
    bench.files.set_room(3 * bench.layout.frame_bytes());
    let mut sequence = bench.sequence(LAYERS + 2, 2);
    let error = loop {
        if let Err(error) = step(&mut sequence, 4) {
            break error.to_string();
        }
    };
    assert!(
        error.contains("no room for 5000 bytes of kv on sim"),
        "{error}"
    );
    drop(sequence);
    assert_eq!(bench.space.used_bytes(), 0);
}

#[test]
fn without_a_home_a_full_arena_is_an_error() {
    let bench = bench(4);
    let homes = Homes::new(Vec::new(), Arc::clone(&bench.mover));
    let space = Arc::clone(&bench.space);
    let mut sequence = Sequence::new(bench.layout.clone(), homes, space, (4, 0));
    sequence.plan(4, 10).expect("empty");
    step(&mut sequence, 64).expect("one block fits");
    let error = step(&mut sequence, 1).expect_err("two do not").to_string();
    assert!(error.contains("a tier to spill to"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Any steps under any room: the room shrinks and grows, slices leave by chance, nothing is
    /// lost or leaked.
    #[test]
    fn any_room_does(
        steps in prop::collection::vec((1_usize..64, 0_usize..40), 1..25),
        stream in 2_usize..6,
        seed in any::<u64>(),
    ) {
        let mut random = SplitMix(seed);
        let least = 3 * LAYERS + stream;
        let bench = bench(least as u64 + 40);
        let mut sequence = bench.sequence(least + 40, stream);
        for (count, spare) in steps {
            if sequence.len() + count > BLOCKS * SLICE_TOKENS {
                break;
            }
            sequence.plan(least + spare, 1000).expect("there is a home");
            step(&mut sequence, count).expect("there is a home");
            sequence.send_some(&mut || random.chance(0.2));
            let used = bench.space.used_bytes() / bench.layout.frame_bytes();
            prop_assert!(used as usize <= least + spare, "{used} frames of {}", least + spare);
        }
        drop(sequence);
        prop_assert_eq!(bench.space.used_bytes(), 0);
    }
}
