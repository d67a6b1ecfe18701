//! `cargo xtask test`: formatting, lints, house rules and all tests, stopping at the first stage
//! that fails. CI runs exactly this.
//!
//! A test that lacks something prints `skipped: reason` and returns; such tests are counted as
//! skipped and listed at the end.

mod tally;
mod tools;
mod joined;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{bpf, checkout, sim, tidy};
use tally::Tally;

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
    let mut tally = Tally::new(args.show_output);
    let mut result = run_stages(&root, &args.names, &mut stages, &mut tally);
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

/// The tests that `names` ask for; all of them if there are none.
fn run_stages(root: &Path, names: &[String], stages: &mut Stages, tally: &mut Tally) -> Result<()> {
    const JOINED: &str = "cargo xtask test joined";
    let is_joined = names == ["joined"];
    if is_joined {
        let test = ["--package", "larder", "--test", "joined"];
        stages.run("joined", JOINED, || run_tests(root, &test, &[], tally))?;
    } else {
        let repeat = "cargo test --workspace";
        stages.run("tests", repeat, || {
            run_tests(root, &["--workspace", "--no-fail-fast"], names, tally)
        })?;
    }
    if is_joined || names.is_empty() {
        stages.run("joined as an ordinary user", JOINED, || {
            joined::run_as_nobody(root, tally)
        })?;
    }
    Ok(())
}

fn run_tests(root: &Path, what: &[&str], names: &[String], tally: &mut Tally) -> Result<()> {
    let mut command = Command::new(cargo_path());
    command
        .args(["test", "--locked"])
        .args(what)
        .args(["--", "--show-output"])
        .args(names)
        .current_dir(root);
    stream(command, tally)
}

/// Runs tests, and shows and counts what they say as they say it.
fn stream(mut command: Command, tally: &mut Tally) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("start {name}"))?;
    let output = child
        .stdout
        .take()
        .context("tests have a standard output")?;
    let mut stdout = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read the output of the tests")?;
        let line = String::from_utf8_lossy(&line);
        if tally.add(&line) {
            writeln!(stdout, "{line}").context("write to standard output")?;
        }
    }
    ensure_success(child.wait().context("wait for the tests")?, "test")
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
