//! The source of `core` from Debian's package `rust-src`, where no rustup brings it.
//!
//! The package is text for every architecture, so that of a newer suite serves any machine. apt
//! works on lists, a cache and a status of its own, in a folder that is removed afterwards: the
//! machine's are neither read nor written, and no privileges are needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::core_library::output;

/// Where the package of a compiler newer than the stable suite's is found.
const SUITE: &str = "trixie-backports";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacks the library of rustc `release` as `folder`, which may be there already.
pub(crate) fn fetch(release: &str, folder: &Path) -> Result<()> {
    if folder.join("core/src/lib.rs").is_file() {
        return Ok(());
    }
    ensure!(
        Path::new(KEYS).is_file(),
        "{KEYS} is missing: apt install debian-archive-keyring"
    );
    let work = folder.with_extension("part");
    // Left over from a fetch that was interrupted.
    let _ = std::fs::remove_dir_all(&work);
    let result = fetch_into(release, folder, &work);
    let _ = std::fs::remove_dir_all(&work);
    result.with_context(|| format!("fetch rust-src {release} from Debian"))
}

fn fetch_into(release: &str, folder: &Path, work: &Path) -> Result<()> {
    for part in ["lists/partial", "cache/archives/partial", "parts"] {
        std::fs::create_dir_all(work.join(part)).context("create a folder")?;
    }
    std::fs::write(work.join("status"), "").context("write the status")?;
    let settings = work.join("apt.conf");
    std::fs::write(&settings, settings_text(work)).context("write the settings")?;

    // With the machine's own sources still: whatever form they have, apt tells the mirror.
    let listed = output(apt(&settings, work).args(["--print-uris", "update"]))?;
    let mirror = mirror(&listed).context("no Debian suite among the sources of this machine")?;
    let source = format!("deb [signed-by={KEYS}] {mirror} {SUITE} main\n");
    let sources = work.join("sources");
    std::fs::write(&sources, source).context("write the sources")?;
    let only = format!(
        "Dir::Etc::SourceList \"{}\";\nDir::Etc::SourceParts \"{}\";\n",
        sources.display(),
        work.join("parts").display()
    );
    std::fs::write(&settings, settings_text(work) + &only).context("write the settings")?;

    output(apt(&settings, work).args(["-qq", "update"]))?;
    output(apt(&settings, work).args(["-qq", "download", &format!("rust-src={release}*")]))?;
    let package = package(work)?;
    let unpacked = work.join("unpacked");
    output(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(&package)
            .arg(&unpacked),
    )?;
    let library = unpacked.join(format!("usr/src/rustc-{release}/library"));
    std::fs::rename(&library, folder)
        .with_context(|| format!("move {} to {}", library.display(), folder.display()))
}

fn apt(settings: &Path, work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-c").arg(settings).current_dir(work);
    command
}

/// Settings that keep apt inside `work`. They are read after the machine's own, so the hooks of
/// those are cleared (some empty the cache that others are using) and a proxy of theirs stays.
fn settings_text(work: &Path) -> String {
    let at = |part: &str| work.join(part).display().to_string();
    format!(
        "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n\
         Dir::State::lists \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\n\
         Dir::Log \"{}\";\nAPT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n",
        at("lists"),
        at("status"),
        at("cache"),
        work.display()
    )
}

/// The mirror of the first Debian suite that apt would fetch: what stands before `/dists/`.
fn mirror(listed: &str) -> Option<&str> {
    let mut mirrors = listed.lines().filter_map(|line| {
        let (address, _) = line.strip_prefix('\'')?.split_once('\'')?;
        let (mirror, suite) = address.split_once("/dists/")?;
        let name = suite.strip_suffix("/InRelease")?;
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase())
            .then_some(mirror)
    });
    mirrors.next()
}

fn package(work: &Path) -> Result<PathBuf> {
    let entries = work.read_dir().context("list the folder")?.flatten();
    let mut packages = entries.map(|entry| entry.path());
    packages
        .find(|path| path.extension().is_some_and(|kind| kind == "deb"))
        .context("apt downloaded no package")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_a_plain_suite() {
        let listed = "'http://security.example/debian-security/dists/x-security/InRelease' a 0\n\
            'http://deb.example/debian/dists/bookworm/InRelease' deb.example_InRelease 0\n";
        assert_eq!(mirror(listed), Some("http://deb.example/debian"));
        assert_eq!(mirror(""), None);
    }
}
