//! `cargo xtask explore`: the tests that choose the schedule themselves, with loom in `larder-sys`
//! and shuttle in `larder-pool`.

use std::path::Path;

use anyhow::Result;

use crate::tally::Tally;
use crate::{cargo, checkout};

const CRATES: [&str; 5] = [
    "--package=larder-sys",
    "--package=larder-pool",
    "--features=larder-sys/explore,larder-pool/explore",
    "--locked",
    "--quiet",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Switches of thread, in one schedule, that no wait forces; loom tries them all.
    #[arg(long, default_value_t = 4)]
    switches: u32,
    /// Schedules that shuttle tries per test, by chance and as many by priorities.
    #[arg(long, default_value_t = 20_000)]
    rounds: u32,
}

impl Args {
    /// As far as every test run goes: seconds.
    pub(crate) const SHORT: Self = Self {
        switches: 2,
        rounds: 300,
    };
}

pub(crate) fn run(args: &Args) -> Result<()> {
    run_in(&checkout::root()?, args)
}

pub(crate) fn run_in(root: &Path, args: &Args) -> Result<()> {
    let mut tally = Tally::new(false);
    let mut tests = cargo::command(root, &["test"]);
    tests
        .args(CRATES)
        .args(["--lib", "explore::", "--", "--show-output"])
        .env("LOOM_MAX_PREEMPTIONS", args.switches.to_string())
        .env("LARDER_EXPLORE_ROUNDS", args.rounds.to_string());
    let result = cargo::count(&mut tests, &mut tally);
    println!("explored: {tally}");
    result
}

/// Lints the tests that are built for exploring only.
pub(crate) fn lint(root: &Path) -> Result<()> {
    let mut arguments = vec!["clippy", "--tests"];
    arguments.extend(CRATES);
    arguments.extend(["--", "-D", "warnings"]);
    cargo::run(root, &arguments)
}
