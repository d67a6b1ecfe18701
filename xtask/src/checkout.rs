//! The checkout that the tasks work on: where it is and which files belong to it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

/// Root folder of the workspace that this program was built from.
pub(crate) fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.parent().context("the xtask folder has no parent")?;
    ensure!(
        root.join("Cargo.toml").is_file(),
        "no workspace at {}: it was moved after xtask was built; run `cargo clean -p xtask`",
        root.display()
    );
    Ok(root.to_path_buf())
}

/// The folder of what is built from the checkout, and of what its tasks make.
pub(crate) fn target(root: &Path) -> PathBuf {
    let given = std::env::var_os("CARGO_TARGET_DIR");
    given.map_or_else(|| root.join("target"), |given| root.join(given))
}

/// Paths of all files that git tracks or would add, relative to `root`, sorted.
pub(crate) fn files(root: &Path) -> Result<Vec<String>> {
    let sh = Shell::new().context("open a shell")?;
    sh.change_dir(root);
    // `safe.directory`: the checkout may belong to another user than the one who tests it.
    let listed = cmd!(
        sh,
        "git -c safe.directory=* ls-files -z --cached --others --exclude-standard --deduplicate"
    )
    .quiet()
    .read()
    .context("list the files of the checkout (tidy needs git and a git checkout)")?;
    let mut files: Vec<String> = listed
        .split('\0')
        .filter(|path| !path.is_empty() && root.join(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    Ok(files)
}
