//! The release build of `larder`, for tasks that run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::checkout;

/// Builds it; its path.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--locked", "--release", "--package", "larder"])
        .current_dir(root)
        .status()
        .context("start cargo")?;
    ensure!(
        status.success(),
        "cargo build: {status}; a C compiler is needed (apt install gcc)"
    );
    Ok(checkout::target(root).join("release/larder"))
}
