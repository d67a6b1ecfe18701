//! Digest of the sources of the probes, which stands beside the object that was made from them.
//!
//! Used by the task that makes the object and by the build that embeds it, so that a changed probe
//! with an old object does not build.

use std::io;
use std::path::{Path, PathBuf};

/// What the object is made from, relative to the folder `ebpf`.
const SOURCES: [&str; 4] = [
    "abi/src",
    "probes/src",
    "probes/Cargo.toml",
    "probes/Cargo.lock",
];

/// The committed object and its digest, relative to the folder `ebpf`.
pub(crate) const OBJECT: &str = "probes/larder.bpf.o";
pub(crate) const DIGEST: &str = "probes/larder.bpf.digest";

/// All source files, in order.
pub(crate) fn files(ebpf: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in SOURCES {
        let path = ebpf.join(source);
        if path.is_dir() {
            for entry in path.read_dir()? {
                files.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// Digest of the files, as a line of text.
pub(crate) fn digest(ebpf: &Path) -> io::Result<String> {
    // FNV-1a: it is to notice an edit, not to resist an attack.
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let fold = |hash: u64, bytes: &[u8]| {
        bytes.iter().fold(hash, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
        })
    };
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for file in files(ebpf)? {
        let name = file.strip_prefix(ebpf).unwrap_or(&file);
        hash = fold(hash, name.to_string_lossy().as_bytes());
        hash = fold(hash, &std::fs::read(&file)?);
    }
    Ok(format!("{hash:016x}\n"))
}
