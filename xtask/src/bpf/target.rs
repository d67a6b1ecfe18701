//! The target that the probes are compiled for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Name of the target and of cargo's folder for it.
pub(crate) const NAME: &str = "bpfel-larder";

/// Tells the linker that it is one; `SPEC` holds it too.
pub(crate) const LINK_MARK: &str = "bpf-link";

/// rustc's own `bpfel-unknown-none` but for four things: it emits machine code and not bitcode,
/// it knows atomic operations, functions share a section per program type as aya expects, and
/// the linker gets a mark.
const SPEC: &str = r#"{
  "arch": "bpf",
  "atomic-cas": true,
  "crt-objects-fallback": "false",
  "data-layout": "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128",
  "dynamic-linking": true,
  "function-sections": false,
  "linker-flavor": "bpf",
  "linker-is-gnu": false,
  "llvm-target": "bpfel",
  "max-atomic-width": 64,
  "merge-functions": "disabled",
  "metadata": { "description": "BPF objects", "host_tools": false, "std": false, "tier": 3 },
  "min-atomic-width": 32,
  "panic-strategy": "abort",
  "position-independent-executables": true,
  "pre-link-args": { "bpf": ["bpf-link"] },
  "singlethread": true,
  "target-endian": "little",
  "target-pointer-width": 64
}
"#;

/// Writes the specification into `cache`, which it makes, and returns its path.
pub(crate) fn write(cache: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    let path = cache.join(format!("{NAME}.json"));
    // Only when it differs: its time of change would make cargo build all again.
    if std::fs::read_to_string(&path).ok().as_deref() != Some(SPEC) {
        std::fs::write(&path, SPEC).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(path)
}
