//! Scripts in mounts of their own, for tests that mount a bpf file system and start probes there.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// What a host says that starts no probes.
const REFUSALS: [&str; 4] = ["unshare: ", "mount: ", "start probes: ", "load the maps: "];

/// Runs `script` in `folder`, `$0` being `binary`; the reason if this host starts no probes.
///
/// # Panics
/// If the script fails for any other reason.
pub(crate) fn run(
    script: &str,
    binary: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    folder: &Path,
) -> Result<(), String> {
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(binary)
        .args(arguments)
        .current_dir(folder)
        .output()
        .map_err(|error| format!("no unshare ({error})"))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    let mut lines = error.lines();
    let refused = lines.find(|line| REFUSALS.iter().any(|part| line.contains(part)));
    let refused = refused.unwrap_or_else(|| panic!("{error}"));
    Err(format!("this host starts no probes ({refused})"))
}
