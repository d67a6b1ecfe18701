//! What a use of a block costs the engine that counts it: nanoseconds per touch, median of 9 runs
//! of 4 million. `touch [FOLDER]` takes an array pinned in that folder of a bpf file system, and
//! one of this process as well; 3072 blocks in an order that no cache foresees.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Instant;

use larder_ebpf::{Claim, DEFAULT_ROOT, HeatArray, Pins};

const BLOCKS: usize = 3072;
const TOUCHES: usize = 4_000_000;
const RUNS: usize = 9;

fn main() {
    let root = std::env::args().nth(1);
    let pins = Pins::new(root.unwrap_or_else(|| DEFAULT_ROOT.to_owned()));
    let claim = Claim {
        manifest: [0x7e57, 0, 0, 0],
        block_first: 0,
        block_count: BLOCKS as u64,
        ranges: Vec::new(),
    };
    match HeatArray::claim(&pins, &claim) {
        Ok(array) => row("pinned array", &array, 1),
        Err(error) => println!("pinned array: skipped: {error}"),
    }
    let array = HeatArray::private(&claim);
    row("array of this process, with the mark", &array, 1);
    row("the same, two threads at once", &array, 2);
}

fn row(name: &str, array: &HeatArray, threads: usize) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for first in 0..threads {
                    scope.spawn(move || touch(array, first));
                }
            });
            start.elapsed().as_secs_f64() * 1e9 / TOUCHES as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (least, median, most) = (times[0], times[RUNS / 2], times[RUNS - 1]);
    println!("{name}: {median:.1} ns per touch ({least:.1} to {most:.1})");
}

/// Touches blocks by steps of a prime, so that each is met equally often.
fn touch(array: &HeatArray, first: usize) {
    let mut block = first;
    for _ in 0..TOUCHES {
        array.touch(black_box(block), 1);
        block += 1009;
        block -= if block >= BLOCKS { BLOCKS } else { 0 };
    }
}
