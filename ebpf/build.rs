//! Refuses to embed an object that was made from other sources than those beside it.
#![forbid(unsafe_code)]

mod digest;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let ebpf = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in digest::files(ebpf).unwrap_or_default() {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    for path in ["probes/src", "abi/src", digest::OBJECT, digest::DIGEST] {
        println!("cargo::rerun-if-changed={path}");
    }
    let found = std::fs::read_to_string(ebpf.join(digest::DIGEST)).unwrap_or_default();
    match digest::digest(ebpf) {
        Ok(want) if want == found && ebpf.join(digest::OBJECT).is_file() => ExitCode::SUCCESS,
        Ok(_) => {
            println!(
                "cargo::error=the probes changed after {} was made: run `cargo xtask bpf`",
                digest::OBJECT
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("cargo::error=read the sources of the probes: {error}");
            ExitCode::FAILURE
        }
    }
}
