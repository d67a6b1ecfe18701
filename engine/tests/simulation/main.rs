//! Deterministic simulation of the real mover, paths, stager, KV and nodes: see
//! `docs/SIMULATION.md`.

mod args;

mod model;

mod world;

mod request;

mod chaos;
mod drill;
mod handles;
mod stores;

mod check;

mod seed;

mod detection;

mod runner;

use args::Args;
use model::Model;
use std::process::ExitCode;
use std::time::Instant;

/// Models of the repository that worlds have.
const MODELS: [&str; 4] = [
    "tiny/tiny-f32.gguf",
    "tiny/tiny-f16.gguf",
    "tiny/tiny-q8_0.gguf",
    "larder-story-moe.gguf",
];

/// Seeds that are run twice.
const TWICE: u64 = 20;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args()) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("error: {error}; give a number");
            return ExitCode::from(2);
        }
    };
    if args.mutant.as_deref().is_some_and(|name| !switch_on(name)) {
        eprintln!("error: this build has no mutations; run cargo xtask sim --mutations");
        return ExitCode::from(2);
    }
    runner::report_failures();
    let mut models: Vec<Model> = MODELS.map(Model::open).into();
    if args.is_canary {
        models.iter_mut().for_each(Model::spoil);
    }
    if args.is_bare {
        let start = Instant::now();
        runner::run(&args, &models).print(start.elapsed());
        return ExitCode::SUCCESS;
    }
    as_tests(&args, &models);
    ExitCode::SUCCESS
}

/// Switches a mutation of the code on; `false` in a build without mutations.
fn switch_on(_name: &str) -> bool {
    false
}

/// What `cargo test` runs, in its words.
fn as_tests(args: &Args, models: &[Model]) {
    let tests: [(&str, &dyn Fn()); 3] = [
        ("seeds", &|| {
            let start = Instant::now();
            runner::run(args, models).print(start.elapsed());
        }),
        ("the_same_seed_is_the_same_run", &|| {
            for seed in 0..TWICE {
                let (one, other) = (seed::run(seed, models), seed::run(seed, models));
                assert_eq!(one, other, "seed {seed} is not the same run twice");
            }
        }),
        ("detection", &detection::check),
    ];
    let chosen = tests.iter().filter(|(name, _)| args.chooses(name));
    let count = chosen.clone().count();
    println!("running {count} tests");
    for (name, test) in chosen {
        test();
        println!("test {name} ... ok");
    }
    println!("test result: ok. {count} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
