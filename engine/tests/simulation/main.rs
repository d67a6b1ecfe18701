//! Deterministic simulation of the real mover, paths, stager, KV and nodes: see
//! `docs/SIMULATION.md`.

mod model;

mod world;

mod request;

use model::Model;
use request::Request;
use world::World;

fn main() {
    let models: Vec<Model> = ["tiny/tiny-f32.gguf", "tiny/tiny-f16.gguf", "tiny/tiny-q8_0.gguf", "larder-story-moe.gguf"].map(Model::open).into();
    let args: Vec<String> = std::env::args().collect();
    let (from, to) = (args[1].parse::<u64>().unwrap_or(0), args[2].parse::<u64>().unwrap_or(1));
    let start = std::time::Instant::now();
    let mut sim = 0;
    for seed in from..to {
        let mut world = World::new(seed, &models);
        let tokens = 1 + world.dice.below(300) as usize;
        let mut request = Request::start(&mut world, seed, tokens);
        let mut run = || {
            request.begin(&mut world)?;
            while !request.is_done() {
                request.step(&mut world)?;
            }
            Ok::<_, larder::kv::KvError>(())
        };
        let out = run();
        println!("seed {seed}: {out:?} {:?} {} ms", world.timeline.trace(), world.now() / 1000000);
        sim += world.now();
        drop(request);
    }
    println!("{} s, {} s", sim as f64 / 1e9, start.elapsed().as_secs_f64());
}
