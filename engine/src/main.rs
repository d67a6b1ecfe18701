//! The `larder` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(larder::cli::main(std::env::args_os()))
}
