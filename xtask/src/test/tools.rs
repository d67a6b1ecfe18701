//! The programs that a build and its checks need, and how to get each.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program with the arguments that prove it and what to install if it is missing.
struct Tool {
    name: &'static str,
    command: &'static [&'static str],
    install: &'static str,
}

const TOOLS: [Tool; 4] = [
    Tool {
        name: "git",
        command: &["git", "--version"],
        install: "apt install git",
    },
    Tool {
        name: "a C compiler",
        command: &["cc", "--version"],
        install: "apt install gcc",
    },
    Tool {
        name: "rustfmt",
        command: &["cargo", "fmt", "--version"],
        install: "rustup component add rustfmt",
    },
    Tool {
        name: "clippy",
        command: &["cargo", "clippy", "--version"],
        install: "rustup component add clippy",
    },
];

/// Fails with one line that names everything missing.
pub(crate) fn check() -> Result<()> {
    let missing: Vec<String> = TOOLS
        .iter()
        .filter(|tool| !runs(tool.command))
        .map(|tool| format!("{} (`{}`)", tool.name, tool.install))
        .collect();
    if !missing.is_empty() {
        bail!("missing: {}", missing.join(", "));
    }
    Ok(())
}

fn runs(command: &[&str]) -> bool {
    let (program, arguments) = command.split_first().expect("a tool has a program");
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
