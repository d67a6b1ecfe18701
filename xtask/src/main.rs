//! Tasks of the workspace, one file per task; `main` only dispatches.
//!
//! Modules in reading order; each may use those above it, never those below.
#![forbid(unsafe_code)]

mod checkout;

mod tally;

mod cargo;

mod tidy;

mod bpf;

mod mutate;

mod sim;

mod explore;

mod miri;

mod ordinary;

mod test;

mod synth;

mod node;
mod release;

mod bench;
mod budget;
mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the workspace.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks formatting, lints, house rules and all tests: exactly what CI runs.
    Test(test::Args),
    /// Runs the tests of slots, leases and queues under all schedules with a few switches.
    Explore(explore::Args),
    /// Runs the tests of the unsafe code under Miri, where the nightly toolchain has it.
    Miri,
    /// Runs all tests as an ordinary user of a poor host: little memlock, no huge pages, no
    /// io_uring, a small /dev/shm, a checkout that is read-only.
    Ordinary,
    /// Starts a program as `ordinary` does.
    #[command(hide = true)]
    Confine(ordinary::Confine),
    /// Tells a story with a model bigger than its memory, on any machine.
    Demo(demo::Args),
    /// Measures every speed of docs/PERFORMANCE.md beside its limit; needs 16 GB of disk.
    Bench(bench::Args),
    /// Proves that budgets are kept and used: runs inside memory cgroups that hold no more.
    Budget(budget::Args),
    /// Checks the house rules: sizes, arrows, unsafe fences, names and documents.
    Tidy,
    /// Simulates the store with faults, or runs the mutations that this must catch.
    Sim(sim::Args),
    /// Makes the object of the eBPF probes, or proves with --check that the committed one is it.
    Bpf(bpf::Args),
    /// Writes a model of random weights, at disk speed, the same bytes for the same options.
    Synth(synth::Args),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = if bpf::is_linker(&arguments) {
        bpf::link(&arguments)
    } else {
        run(Cli::parse().task)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Test(args) => test::run(&args),
        Task::Explore(args) => explore::run(&args),
        Task::Miri => miri::run(),
        Task::Ordinary => ordinary::run(),
        Task::Confine(args) => ordinary::confine(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Budget(args) => budget::run(&args),
        Task::Tidy => tidy::run(),
        Task::Sim(args) => sim::run(&args),
        Task::Bpf(args) => bpf::run(&args),
        Task::Synth(args) => synth::run(&args),
    }
}
