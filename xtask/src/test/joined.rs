//! The joined test as an ordinary user, when root runs the tests: from a folder that such a user
//! can read, with a temporary folder of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cargo;
use crate::tally::Tally;

/// `nobody`, who owns nothing.
const USER: u32 = 65534;

/// Runs the test, which has been built, as `nobody`; without root there is nothing to do.
pub(super) fn run_as_nobody(root: &Path, tally: &mut Tally) -> Result<()> {
    if fs::metadata("/proc/self").context("/proc/self")?.uid() != 0 {
        println!("the user of this run is an ordinary one");
        return Ok(());
    }
    let (test, larder) = executables(root)?;
    let folder = tempfile::tempdir().context("a folder for the test")?;
    let open = Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), open).context("open the folder to all")?;
    for (from, name) in [(&test, "joined"), (&larder, "larder")] {
        let to = folder.path().join(name);
        fs::copy(from, to).with_context(|| from.display().to_string())?;
    }
    copy_folder(&root.join("engine/assets"), &folder.path().join("assets"))?;
    let own = folder.path().join("own");
    fs::create_dir(&own).context("a temporary folder")?;
    chown(&own, Some(USER), Some(USER)).context("give the temporary folder away")?;
    let user = USER.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .args(["--inh-caps=-all", "--no-new-privs"])
        .arg(folder.path().join("joined"))
        .arg("--show-output")
        .current_dir(folder.path())
        .env("TMPDIR", &own)
        .env("HOME", &own);
    cargo::count(&mut command, tally).context("the joined test as an ordinary user")
}

/// The test and the program that it runs, as cargo built them.
fn executables(root: &Path) -> Result<(PathBuf, PathBuf)> {
    let arguments = [
        "test",
        "--locked",
        "--package",
        "larder",
        "--test",
        "joined",
    ];
    let output = cargo::command(root, &arguments)
        .args(["--no-run", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    ensure!(
        output.status.success(),
        "cargo test --no-run: {}",
        output.status
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<serde_json::Value> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let find = |name: &str, kind: &str| {
        let mut built = messages.iter().filter(|message| {
            let target = &message["target"];
            target["name"] == name && target["kind"][0] == kind
        });
        let path = built.find_map(|message| message["executable"].as_str());
        let path = path.map(PathBuf::from);
        path.with_context(|| format!("cargo built no {kind} named {name}"))
    };
    Ok((find("joined", "test")?, find("larder", "bin")?))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry.with_context(|| from.display().to_string())?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to).with_context(|| to.display().to_string())?;
        }
    }
    Ok(())
}
