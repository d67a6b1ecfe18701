//! The compiler, and Rust's `core` library compiled by it for the BPF target.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::target;

/// Crate that `core` expects to be there; it has nothing to offer a BPF program.
const BUILTINS: &str = "#![feature(no_core, compiler_builtins)]\n\
    #![allow(internal_features)]\n#![no_core]\n#![compiler_builtins]\n";

/// The rustc that compiles the workspace.
#[derive(Debug)]
pub(crate) struct Compiler {
    release: String,
    commit: String,
    sysroot: PathBuf,
}

impl Compiler {
    pub(crate) fn find() -> Result<Self> {
        let text = output(Command::new("rustc").arg("-vV"))?;
        let field = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(key));
            lines.next().map(|value| value.trim().to_owned())
        };
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        Ok(Self {
            release: field("release:").context("rustc tells no release")?,
            commit: field("commit-hash:").context("rustc tells no commit")?,
            sysroot: PathBuf::from(sysroot.trim()),
        })
    }

    pub(crate) fn short_hash(&self) -> &str {
        self.commit.get(..12).unwrap_or(&self.commit)
    }

    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// Where the sources are put when they are fetched.
    pub(crate) fn fetched_source(&self, root: &Path) -> PathBuf {
        root.join("target").join(format!("core-{}", self.release))
    }

    /// Folder of the library sources: the one given, the toolchain's, the distribution's, or the
    /// fetched one.
    pub(crate) fn core_source(&self, given: Option<&Path>, fetched: &Path) -> Result<PathBuf> {
        let mut places: Vec<PathBuf> = given.map(Path::to_path_buf).into_iter().collect();
        places.push(self.sysroot.join("lib/rustlib/src/rust/library"));
        places.push(format!("/usr/src/rustc-{}/library", self.release).into());
        places.push(fetched.to_path_buf());
        let mut found = places
            .iter()
            .filter(|place| place.join("core/src/lib.rs").is_file());
        if let Some(found) = found.next() {
            return Ok(found.clone());
        }
        let looked: Vec<String> = places
            .iter()
            .map(|place| place.display().to_string())
            .collect();
        bail!(
            "no source of Rust's core {} in {}: run `rustup component add rust-src`, or install \
             the distribution's rust-src of this version, or give --fetch or --core FOLDER",
            self.release,
            looked.join(", ")
        )
    }

    /// Compiles `core` into a sysroot under `cache`, unless it is there, and returns that.
    pub(crate) fn build_core(&self, core: &Path, spec: &Path, cache: &Path) -> Result<PathBuf> {
        let sysroot = cache.join("sysroot");
        let libraries = sysroot.join("lib/rustlib").join(target::NAME).join("lib");
        let stamp = cache.join("core.stamp");
        let want = format!("{} {}", self.commit, core.display());
        if std::fs::read_to_string(&stamp).ok().as_deref() == Some(&want) {
            return Ok(sysroot);
        }
        println!("compiling core for the probes, once for this compiler");
        std::fs::create_dir_all(&libraries)
            .with_context(|| format!("create {}", libraries.display()))?;
        let builtins = cache.join("compiler_builtins.rs");
        std::fs::write(&builtins, BUILTINS).context("write compiler_builtins.rs")?;
        let rustc = || {
            let mut rustc = Command::new("rustc");
            rustc.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS");
            rustc.args(["-Zunstable-options", "--edition=2024", "--crate-type=rlib"]);
            rustc.args(["--cap-lints=allow", "-Cpanic=abort", "-Copt-level=3"]);
            rustc.arg("-Zforce-unstable-if-unmarked");
            rustc
                .arg("--target")
                .arg(spec)
                .arg("--out-dir")
                .arg(&libraries);
            rustc
        };
        output(rustc().arg("--crate-name=compiler_builtins").arg(&builtins))?;
        let remap = format!("--remap-path-prefix={}=/rust/library", core.display());
        output(
            rustc()
                .args(["--crate-name=core", "-Clinker-plugin-lto", "-Cdebuginfo=2"])
                .arg(remap)
                .arg(core.join("core/src/lib.rs")),
        )?;
        std::fs::write(&stamp, want).context("write the stamp of core")?;
        Ok(sysroot)
    }
}

/// Runs a program and returns what it printed; if it fails, its messages are the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!(
            "{name}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed other than text"))
}
