//! Deterministic simulation of the real mover, paths, stager, KV and nodes: see
//! `docs/SIMULATION.md`.

mod model;

mod world;

mod request;

mod chaos;
mod drill;

mod check;

mod seed;

use larder_pool::sim::Fault;
use model::Model;
use std::cell::Cell;

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

fn main() {
    let names = ["tiny/tiny-f32.gguf", "tiny/tiny-f16.gguf", "tiny/tiny-q8_0.gguf", "larder-story-moe.gguf"];
    let models: Vec<Model> = names.map(Model::open).into();
    let args: Vec<String> = std::env::args().collect();
    let (from, to) = (args[1].parse::<u64>().unwrap_or(0), args[2].parse::<u64>().unwrap_or(1));
    let start = std::time::Instant::now();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        println!("seed {} failed", SEED.get());
        hook(info);
        std::process::exit(1);
    }));
    let mut sim = 0;
    let mut faults = [0; Fault::ALL.len()];
    let (mut done, mut failed) = (0, 0);
    for seed in from..to {
        SEED.set(seed);
        let out = seed::run(seed, &models);
        sim += out.virtual_ns;
        done += out.done;
        failed += out.failed;
        if to == from + 1 { println!("{out:?}"); }
        for (sum, count) in faults.iter_mut().zip(out.faults) {
            *sum += count;
        }
    }
    for fault in Fault::ALL {
        println!("{:>10} {}", faults[fault as usize], fault.name());
    }
    println!("{done} done {failed} failed; {} s, {} s", sim as f64 / 1e9, start.elapsed().as_secs_f64());
}
