//! `cargo xtask budget`: budgets are kept and used, in runs of the release build inside memory
//! cgroups with the limit that a run states. The runs are those of `engine/tests/budget`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cargo, checkout, release};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// This model instead of those of the repository, in fewer settings; may be given again.
    #[arg(long, value_name = "FILE")]
    model: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = checkout::root()?;
    let larder = release::build(&root)?;
    let proof = cargo::test_binary(&root, "budget", None)?;
    // Beside the build, on its disk: a temporary folder in memory would count as memory of a run.
    let folder = larder.parent().context("the build has a folder")?;
    let folder = folder.join("budget");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let status = command(&proof, &larder, &folder, args).status();
    ensure!(
        status.context("start the proof")?.success(),
        "a budget is not kept, or not used"
    );
    Ok(())
}

fn command(proof: &Path, larder: &Path, folder: &Path, args: &Args) -> Command {
    let mut command = Command::new(proof);
    command.arg("--table");
    command.arg("--larder").arg(larder);
    command.arg("--folder").arg(folder);
    for model in &args.model {
        command.arg("--model").arg(model);
    }
    command
}
