//! Starting cargo, and counting what tests say.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::tally::Tally;

/// The cargo that runs this program, in `root`, so that every stage uses one toolchain.
pub(crate) fn command(root: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root);
    command
}

/// Runs cargo; what it prints goes where ours goes.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let status = command(root, arguments).status().context("start cargo")?;
    ensure_success(status, &format!("cargo {}", arguments[0]))
}

/// Runs `command`, shows its standard output save that of tests that passed, and counts them.
pub(crate) fn count(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let output = child.stdout.take().context("no standard output")?;
    let mut stdout = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.with_context(|| format!("read the output of {name}"))?;
        let line = String::from_utf8_lossy(&line);
        if tally.add(&line) {
            writeln!(stdout, "{line}").context("write to standard output")?;
        }
    }
    let status = child.wait().with_context(|| format!("wait for {name}"))?;
    ensure_success(status, &name)
}

/// Builds the test `name` of larder in the checkout `root`; its path.
pub(crate) fn test_binary(root: &Path, name: &str, target: Option<&Path>) -> Result<PathBuf> {
    let mut cargo = command(root, &["test", "--locked", "--package", "larder"]);
    cargo
        .args(["--test", name, "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    if let Some(target) = target {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let output = cargo.output().context("start cargo")?;
    ensure!(output.status.success(), "the test {name} does not build");
    let named = format!("\"name\":\"{name}\"");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = lines
        .lines()
        .find(|line| line.contains("\"kind\":[\"test\"]") && line.contains(&named));
    let path = line.and_then(|line| line.split_once("\"executable\":\""));
    let path = path.and_then(|(_, rest)| rest.split_once('"'));
    let (path, _) = path.with_context(|| format!("cargo names no executable of {name}"))?;
    Ok(PathBuf::from(path))
}

fn ensure_success(status: ExitStatus, what: &str) -> Result<()> {
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}
