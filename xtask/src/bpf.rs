//! `cargo xtask bpf`: makes the object of the probes with rustc alone, or proves that the committed
//! one is what rustc makes.
//!
//! 1. `core` is compiled for the BPF target into a sysroot of its own, once per compiler.
//! 2. A nested cargo compiles the probes with fat link-time optimisation, so that LLVM emits one
//!    object, and calls this program as its linker.
//! 3. The linker makes names that the kernel takes as BTF and drops the debug sections, which are
//!    the only part with paths of this machine in it.
//!
//! The result is the same bytes for the same sources, compiler and `Cargo.lock`.

#[path = "../../ebpf/digest.rs"]
mod digest;

mod target;
mod core_library;
mod debian;

mod btf_names;
mod link;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::checkout;
use core_library::Compiler;
pub(crate) use link::{is_linker, link};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compares the committed object with a fresh one instead of replacing it.
    #[arg(long)]
    check: bool,

    /// Folder with the source of Rust's `core`, of the very version of rustc (`.../library`).
    #[arg(long, env = "LARDER_CORE_SRC")]
    core: Option<PathBuf>,

    /// Takes that source from Debian's package rust-src into the target folder, where this and
    /// later runs find it.
    #[arg(long, conflicts_with = "core")]
    fetch: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = checkout::root()?;
    let compiler = Compiler::find()?;
    let fetched = compiler.fetched_source(&root);
    if args.fetch {
        debian::fetch(compiler.release(), &fetched)?;
    }
    let core = compiler.core_source(args.core.as_deref(), &fetched)?;
    let object = build(&root, &compiler, &core)?;
    let ebpf = root.join("ebpf");
    let committed = ebpf.join(digest::OBJECT);
    let digest = digest::digest(&ebpf).context("read the sources of the probes")?;
    if args.check {
        return compare(&root, &object, &digest);
    }
    std::fs::write(&committed, &object)
        .with_context(|| format!("write {}", committed.display()))?;
    std::fs::write(ebpf.join(digest::DIGEST), digest).context("write the digest")?;
    println!("{}: {} bytes", committed.display(), object.len());
    Ok(())
}

/// The stage of `cargo xtask test`: checks the object, or says why it cannot be made again here.
pub(crate) fn check(root: &Path) -> Result<()> {
    let ebpf = root.join("ebpf");
    let digest = digest::digest(&ebpf).context("read the sources of the probes")?;
    let noted = std::fs::read_to_string(ebpf.join(digest::DIGEST)).unwrap_or_default();
    ensure!(
        noted == digest,
        "the probes changed after their object was made: run `cargo xtask bpf`"
    );
    let compiler = Compiler::find()?;
    let given = std::env::var_os("LARDER_CORE_SRC").map(PathBuf::from);
    match compiler.core_source(given.as_deref(), &compiler.fetched_source(root)) {
        Ok(core) => compare(root, &build(root, &compiler, &core)?, &digest),
        Err(reason) => {
            println!("skipped: the object of the probes was not made again: {reason}");
            Ok(())
        }
    }
}

fn compare(root: &Path, object: &[u8], digest: &str) -> Result<()> {
    let ebpf = root.join("ebpf");
    let path = ebpf.join(digest::OBJECT);
    let committed = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    if committed != object {
        let first = committed.iter().zip(object).position(|(a, b)| a != b);
        let at = first.unwrap_or(committed.len().min(object.len()));
        bail!(
            "{} differs from byte {at} on ({} bytes, rustc makes {}): run `cargo xtask bpf`",
            path.display(),
            committed.len(),
            object.len()
        );
    }
    let noted = std::fs::read_to_string(ebpf.join(digest::DIGEST)).unwrap_or_default();
    ensure!(
        noted == digest,
        "{} is old: run `cargo xtask bpf`",
        digest::DIGEST
    );
    println!(
        "{}: {} bytes, the same that rustc makes",
        path.display(),
        object.len()
    );
    Ok(())
}

/// Compiles the probes and returns the object.
fn build(root: &Path, compiler: &Compiler, core: &Path) -> Result<Vec<u8>> {
    let cache = root
        .join("target")
        .join(format!("bpf-{}", compiler.short_hash()));
    let spec = target::write(&cache)?;
    let sysroot = compiler.build_core(core, &spec, &cache)?;
    let own = std::env::current_exe().context("find the own program, which is the linker")?;
    let home = cargo_home();
    let flags = [
        format!("--sysroot={}", sysroot.display()),
        format!("-Clinker={}", own.display()),
        "-Zunstable-options".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        // Which `pt_regs` the arguments of marks are read from.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        format!("--remap-path-prefix={}=/src", root.display()),
        format!("--remap-path-prefix={}=/cargo", home.display()),
    ];
    let target_dir = cache.join("target");
    let mut cargo = Command::new(cargo_path());
    // The nested cargo is to know nothing of the outer one: its wrappers, its job server, its
    // flags. `PWD` would end up in the object.
    for name in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
        "PWD",
    ] {
        cargo.env_remove(name);
    }
    cargo
        .current_dir(root.join("ebpf/probes"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args([
            "build",
            "--release",
            "--locked",
            "-Zjson-target-spec",
            "--target",
        ])
        .arg(&spec)
        .arg("--target-dir")
        .arg(&target_dir);
    core_library::output(&mut cargo)?;
    let made = target_dir.join(target::NAME).join("release/larder-probes");
    std::fs::read(&made).with_context(|| format!("read {}", made.display()))
}

/// Where cargo keeps the sources of other crates.
fn cargo_home() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let user = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    home.or_else(user).unwrap_or_default()
}

fn cargo_path() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
