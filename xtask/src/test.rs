//! `cargo xtask test`: formatting, lints, house rules and all tests, stopping at the first stage
//! that fails. CI runs exactly this.
//!
//! A test that lacks something prints `skipped: reason` and returns; such tests are counted as
//! skipped and listed at the end.

mod tools;
mod joined;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::ordinary::Extent;
use crate::tally::Tally;
use crate::{bpf, cargo, checkout, explore, miri, ordinary, sim, tidy};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs only the tests whose name contains one of these words, and nothing else; `joined` is
    /// the joined test, which root runs as an ordinary user too.
    names: Vec<String>,
    /// Shows what tests that passed have printed.
    #[arg(long)]
    show_output: bool,
}

/// Wall time of the stages that are done.
struct Stages {
    done: Vec<(&'static str, f64)>,
}

impl Stages {
    /// Runs one stage; a failure names it and shows how to repeat it alone.
    fn run<T>(
        &mut self,
        name: &'static str,
        repeat: &str,
        stage: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        println!("== {name}");
        let start = Instant::now();
        let result = stage();
        self.done.push((name, start.elapsed().as_secs_f64()));
        if result.is_err() {
            self.print();
        }
        result.with_context(|| format!("failed: {name}; repeat it with `{repeat}`"))
    }

    fn print(&self) {
        let times: Vec<String> = self
            .done
            .iter()
            .map(|(name, seconds)| format!("{name} {seconds:.1} s"))
            .collect();
        println!("== time: {}", times.join(", "));
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = checkout::root()?;
    let mut stages = Stages { done: Vec::new() };
    if args.names.is_empty() {
        stages.run("tools", "cargo xtask test", tools::check)?;
        const FMT: &[&str] = &["fmt", "--all", "--check"];
        stages.run("fmt", "cargo fmt --all --check", || cargo::run(&root, FMT))?;
        stages.run("tidy", "cargo xtask tidy", tidy::run)?;
        stages.run("bpf", "cargo xtask bpf --check", || bpf::check(&root))?;
        const CLIPPY: &[&str] = &[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        let repeat = "cargo clippy --workspace --all-targets -- -D warnings";
        stages.run("clippy", repeat, || {
            cargo::run(&root, CLIPPY)?;
            explore::lint(&root)
        })?;
    }
    let mut tally = Tally::new(args.show_output);
    let result = run_stages(&root, &args.names, &mut stages, &mut tally);
    if result.is_ok() {
        stages.print();
    }
    for skip in tally.skips() {
        println!("skipped: {skip}");
    }
    println!("{tally}");
    result
}

/// The tests that `names` ask for; all of them, and where a host gives less, if there are none.
fn run_stages(root: &Path, names: &[String], stages: &mut Stages, tally: &mut Tally) -> Result<()> {
    const JOINED: &str = "cargo xtask test joined";
    if names == ["joined"] {
        let test = ["--package", "larder", "--test", "joined"];
        stages.run("joined", JOINED, || run_tests(root, &test, &[], tally))?;
        return stages.run("joined as an ordinary user", JOINED, || {
            joined::run_as_nobody(root, tally)
        });
    }
    let what = ["--workspace", "--no-fail-fast"];
    let repeat = "cargo test --workspace";
    stages.run("tests", repeat, || run_tests(root, &what, names, tally))?;
    if names.is_empty() {
        run_elsewhere(root, stages)?;
    }
    Ok(())
}

fn run_tests(root: &Path, what: &[&str], names: &[String], tally: &mut Tally) -> Result<()> {
    let mut command = cargo::command(root, &["test", "--locked"]);
    command.args(what).args(["--", "--show-output"]).args(names);
    // What runs leave for later plans is not for those of whoever tests.
    command.env("XDG_CACHE_HOME", checkout::target(root).join("caches"));
    cargo::count(&mut command, tally)
}

/// The same tests again where they are watched, or where a host gives less.
fn run_elsewhere(root: &Path, stages: &mut Stages) -> Result<()> {
    stages.run("ordinary", "cargo xtask ordinary", || {
        ordinary::run_in(root, Extent::Short)
    })?;
    stages.run("explore", "cargo xtask explore", || {
        explore::run_in(root, &explore::Args::SHORT)
    })?;
    stages.run("miri", "cargo xtask miri", || miri::run_in(root))?;
    stages.run("mutations", "cargo xtask sim --mutations", || {
        sim::mutations(root)
    })
}
