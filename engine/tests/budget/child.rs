//! A run of larder in a process between: it learns what the kernel counted of larder alone.

use crate::group::{Counted, Group};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// First argument of the process between; a file for what it learned and a command follow.
pub(crate) const BETWEEN: &str = "--between";

/// What became of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Its JSON object, if it ended well.
    pub(crate) report: Option<Value>,
    /// Last line on standard error.
    pub(crate) said: String,
    /// Most memory that larder ever had in bytes, pages of files too: `VmHWM`.
    pub(crate) resident: u64,
    pub(crate) counted: Option<Counted>,
}

/// Runs a command to its end and writes what the kernel counted of it.
pub(crate) fn between(arguments: &[String]) -> ExitCode {
    let [file, program, rest @ ..] = arguments else {
        return ExitCode::from(2);
    };
    let status = Command::new(program).args(rest).status();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    let kib = usage.map_or(0, |usage| usage.max_rss());
    let learned = json!({ "resident": kib * 1024 });
    if std::fs::write(file, learned.to_string()).is_err() {
        return ExitCode::from(2);
    }
    match status.map(|status| status.code()) {
        Ok(Some(code)) => ExitCode::from(code as u8),
        _ => ExitCode::FAILURE,
    }
}

/// Runs `larder` in `group`, if there is one; `folder` is its working folder.
pub(crate) fn run(
    larder: &Path,
    arguments: &[String],
    folder: &Path,
    group: Option<&Group>,
) -> Outcome {
    let learned = folder.join("learned.json");
    let inner = match group {
        Some(group) => group.starts(larder),
        None => Command::new(larder),
    };
    let own = std::env::current_exe().expect("this program has a path");
    let output = Command::new(own)
        .arg(BETWEEN)
        .arg(&learned)
        .arg(inner.get_program())
        .args(inner.get_args())
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("this program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let learned = std::fs::read(&learned).unwrap_or_default();
    let learned: Value = serde_json::from_slice(&learned).unwrap_or_default();
    Outcome {
        report: serde_json::from_slice(&output.stdout)
            .ok()
            .filter(|_| output.status.success()),
        said: said.lines().last().unwrap_or_default().to_owned(),
        resident: learned["resident"].as_u64().unwrap_or(0),
        counted: group.map(Group::counted),
    }
}
