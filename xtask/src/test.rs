//! `cargo xtask test`: formatting, lints, house rules and all tests, stopping at the first stage
//! that fails. CI runs exactly this.
//!
//! A test that lacks something prints `skipped: reason` and returns; such tests are counted as
//! skipped and listed at the end.

mod tally;
mod tools;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{bpf, checkout, sim, tidy};
use tally::Tally;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs only the tests whose name contains one of these words, and nothing else.
    names: Vec<String>,
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
        stages.run("fmt", "cargo fmt --all --check", || cargo(&root, FMT))?;
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
        stages.run("clippy", repeat, || cargo(&root, CLIPPY))?;
    }
    let mut tally = Tally::default();
    let mut result = stages.run("tests", "cargo test --workspace", || {
        run_tests(&root, &args.names, &mut tally)
    });
    if result.is_ok() && args.names.is_empty() {
        let repeat = "cargo xtask sim --mutations";
        result = stages.run("mutations", repeat, || sim::mutations(&root));
    }
    if result.is_ok() {
        stages.print();
    }
    for skip in tally.skips() {
        println!("skipped: {skip}");
    }
    println!("{tally}");
    result
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new(cargo_path())
        .args(arguments)
        .current_dir(root)
        .status()
        .context("start cargo")?;
    ensure_success(status, arguments[0])
}

fn run_tests(root: &Path, names: &[String], tally: &mut Tally) -> Result<()> {
    let mut child = Command::new(cargo_path())
        .args([
            "test",
            "--locked",
            "--workspace",
            "--no-fail-fast",
            "--",
            "--show-output",
        ])
        .args(names)
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo")?;
    let output = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let mut stdout = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read the output of cargo test")?;
        let line = String::from_utf8_lossy(&line);
        if tally.add(&line) {
            writeln!(stdout, "{line}").context("write to standard output")?;
        }
    }
    ensure_success(child.wait().context("wait for cargo")?, "test")
}

fn ensure_success(status: ExitStatus, what: &str) -> Result<()> {
    if !status.success() {
        bail!("cargo {what}: {status}");
    }
    Ok(())
}

/// The cargo that runs this program, so that every stage uses one toolchain.
fn cargo_path() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
