//! `cargo xtask ordinary`: the tests of the workspace as an ordinary user of a poor host.
//!
//! Each test binary starts through [`confine`], which takes away what a generous host gives: it
//! runs as nobody (or, not started by root, as who started it), may lock 8 MiB, gets no huge pages
//! and no io_uring, and sees a small `/dev/shm` and a read-only checkout, models included.

mod confine;

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::tally::Tally;
use crate::{cargo, checkout};
pub(crate) use confine::{Confine, confine};

/// User and group that own nothing.
const NOBODY: u32 = 65534;

/// How many of the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    /// All but those that compute for long and touch no host.
    Short,
}

/// Binaries, and tests of others, that [`Extent::Short`] leaves out.
const LONG_BINARIES: [&str; 2] = ["kernels-", "simulation-"];
const LONG_TESTS: [&str; 5] = [
    "--skip=golden::",
    "--skip=same_bits::",
    "--skip=ten_thousand_tokens",
    "--skip=spilled_kv_changes_no_bit",
    "--skip=fuzz::",
];

/// A test binary, and the folder of its crate, in which cargo would start it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Binary {
    path: PathBuf,
    folder: PathBuf,
}

impl Binary {
    fn is_long(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| LONG_BINARIES.iter().any(|long| name.starts_with(long)))
    }
}

pub(crate) fn run() -> Result<()> {
    run_in(&checkout::root()?, Extent::All)
}

/// Builds the tests of the workspace at `root`, where that has not happened, and runs them.
pub(crate) fn run_in(root: &Path, extent: Extent) -> Result<()> {
    let scratch = tempfile::tempdir().context("a folder for what tests write")?;
    if is_root() {
        chown(scratch.path(), Some(NOBODY), Some(NOBODY)).context("give nobody a folder")?;
    }
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(scratch.path(), everybody).context("open the folder")?;
    let mut tally = Tally::new(false);
    let mut failed = Vec::new();
    let is_short = extent == Extent::Short;
    for binary in binaries(root)? {
        if is_short && binary.is_long() {
            continue;
        }
        let mut command = confined(root, scratch.path(), &binary)?;
        command.args(LONG_TESTS.iter().filter(|_| is_short));
        if let Err(error) = cargo::count(&mut command, &mut tally) {
            failed.push(format!("{}: {error}", binary.path.display()));
        }
    }
    for skip in tally.skips() {
        println!("skipped: {skip}");
    }
    println!("as an ordinary user: {tally}");
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The command that starts `binary` confined, with the environment that cargo would give it.
fn confined(root: &Path, scratch: &Path, binary: &Binary) -> Result<Command> {
    let own = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(own);
    command
        .arg("confine")
        .args(["--checkout".as_ref(), root.as_os_str()])
        .args(is_root().then(|| format!("--user={NOBODY}")))
        .arg("--")
        .arg(&binary.path)
        .arg("--show-output")
        .current_dir(&binary.folder)
        .env_clear()
        .env("CARGO_MANIFEST_DIR", &binary.folder)
        .env("HOME", scratch)
        .env("TMPDIR", scratch)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    Ok(command)
}

/// One line of cargo's messages, as far as we read it.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The test binaries of the workspace at `root`, built if they are not.
fn binaries(root: &Path) -> Result<BTreeSet<Binary>> {
    const BUILD: [&str; 5] = [
        "test",
        "--locked",
        "--workspace",
        "--no-run",
        "--message-format=json",
    ];
    let output = cargo::command(root, &BUILD)
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    ensure!(output.status.success(), "cargo test: {}", output.status);
    let mut binaries = BTreeSet::new();
    for line in output.stdout.split(|&byte| byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Message>(line) else {
            continue;
        };
        let is_test = message.profile.is_some_and(|profile| profile.test);
        if message.reason != "compiler-artifact" || !is_test {
            continue;
        }
        let (Some(path), Some(manifest)) = (message.executable, message.manifest_path) else {
            continue;
        };
        let folder = manifest.parent().context("a manifest lies in a folder")?;
        binaries.insert(Binary {
            path,
            folder: folder.to_path_buf(),
        });
    }
    ensure!(!binaries.is_empty(), "cargo named no test binary");
    Ok(binaries)
}
