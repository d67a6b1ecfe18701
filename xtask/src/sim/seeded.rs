//! A build folder that begins with the dependencies that another one has built already.

use std::fs::{self, File, FileTimes};
use std::path::Path;

use anyhow::{Context, Result};

/// Crates of the workspace are built anew: they are other ones in the copy.
const OURS: [&str; 5] = ["larder", "liblarder", "xtask", "libxtask", "simulation"];

/// Files at least this long are linked, the others copied: cargo writes into small ones.
const LINKED: u64 = 64 << 10;

/// Gives `target` what `from` has of dependencies, unless it has been used before.
pub(crate) fn seed(from: &Path, target: &Path) -> Result<()> {
    let (from, to) = (from.join("debug"), target.join("debug"));
    if to.exists() {
        return Ok(());
    }
    for folder in [".fingerprint", "build", "deps"] {
        if from.join(folder).is_dir() {
            take(&from.join(folder), &to.join(folder)).context("take dependencies over")?;
        }
    }
    Ok(())
}

fn take(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if OURS.iter().any(|ours| name.starts_with(ours)) {
            continue;
        }
        let (source, place) = (entry.path(), to.join(entry.file_name()));
        let data = entry.metadata()?;
        if data.is_dir() {
            take(&source, &place)?;
        } else if data.len() < LINKED || fs::hard_link(&source, &place).is_err() {
            fs::copy(&source, &place)?;
            // Cargo compares times to see whether something has to be built.
            let times = FileTimes::new().set_modified(data.modified()?);
            File::options().write(true).open(&place)?.set_times(times)?;
        }
    }
    Ok(())
}
