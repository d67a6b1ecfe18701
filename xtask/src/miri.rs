//! `cargo xtask miri`: the tests of slots, leases, spaces and mappings under Miri, which checks
//! every access of our unsafe code to memory against the rules of the language.
//!
//! The rest of `larder-sys` is calls to the kernel that Miri does not have: files opened for direct
//! access, io_uring, sockets, BPF.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::tally::Tally;
use crate::{cargo, checkout};

/// Real files and clocks; addresses that the kernel takes and gives back have no provenance.
const FLAGS: &str = "-Zmiri-disable-isolation -Zmiri-permissive-provenance";

/// Modules whose tests Miri can run.
const MODULES: [&str; 3] = ["slot::", "lease::", "space::"];

const INSTALL: &str = "rustup toolchain install nightly --component miri,rust-src";

pub(crate) fn run() -> Result<()> {
    run_in(&checkout::root()?)
}

/// Says that it was skipped where there is no Miri.
pub(crate) fn run_in(root: &Path) -> Result<()> {
    if !is_here() {
        println!("skipped: no miri here ({INSTALL})");
        return Ok(());
    }
    let mut tally = Tally::new(false);
    let mut command = nightly();
    command
        .args([
            "miri",
            "test",
            "--locked",
            "--quiet",
            "--package=larder-sys",
        ])
        .args(["--lib", "--target-dir=target/miri", "--", "--show-output"])
        .args(MODULES)
        .env("MIRIFLAGS", FLAGS)
        .current_dir(root);
    let result = cargo::count(&mut command, &mut tally);
    println!("under miri: {tally}");
    result
}

/// Miri of the nightly toolchain starts and finds the sources of the standard library.
fn is_here() -> bool {
    let mut command = nightly();
    command.args(["miri", "setup"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    // Those of the toolchain that runs us; and a look costs nobody a download.
    command.env("RUSTUP_AUTO_INSTALL", "0");
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTDOC"] {
        command.env_remove(name);
    }
    command
}
