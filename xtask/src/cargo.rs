//! Starting cargo, and counting what tests say.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

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

fn ensure_success(status: ExitStatus, what: &str) -> Result<()> {
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}
