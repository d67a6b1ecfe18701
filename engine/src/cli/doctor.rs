//! `larder doctor`: what this host has of all that tiers stand on, one line each.
//!
//! A line ends with the next command to type where something is missing. The exit code is 1 only
//! when a tier or size that was asked for cannot work.

mod watching;

mod checks;

mod asked;

use super::error::CliError;
use super::options::DoctorOptions;
use super::table::print;
use crate::host::HostTree;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::IsTerminal;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It works.
    Ok,
    /// It is not there, or less of it than could be; larder runs without.
    Lacks,
    /// It was asked for and cannot work.
    Fails,
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    name: String,
    state: State,
    /// What was found.
    found: String,
    /// What to type or do to have more.
    next: Option<String>,
    /// A flag named it.
    asked: bool,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Ok,
            found: found.into(),
            next: None,
            asked: false,
        }
    }

    fn lacks(name: &str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            state: State::Lacks,
            next: Some(next.into()),
            ..Self::ok(name, found)
        }
    }

    /// A flag named it: what is lacking fails.
    fn asked(self) -> Self {
        let state = match self.state {
            State::Lacks => State::Fails,
            state => state,
        };
        Self {
            state,
            asked: true,
            ..self
        }
    }
}

#[derive(Debug, Serialize)]
struct DoctorReport {
    /// Nothing that was asked for fails.
    ok: bool,
    checks: Vec<Check>,
}

pub(super) fn doctor(options: &DoctorOptions) -> Result<(), CliError> {
    let tree = HostTree::this();
    let mut checks = checks::all(&tree);
    checks.extend(asked::all(&tree, options)?);
    let failed: Vec<&Check> = checks
        .iter()
        .filter(|check| check.state == State::Fails)
        .collect();
    let names: Vec<&str> = failed.iter().map(|check| check.name.as_str()).collect();
    let names = names.join(", ");
    let report = DoctorReport {
        ok: names.is_empty(),
        checks,
    };
    let is_terminal = std::io::stdout().is_terminal();
    print(options.json, &report, || text(&report.checks, is_terminal))?;
    if report.ok {
        Ok(())
    } else {
        Err(CliError::Doctor { names })
    }
}

/// One line per check: mark, name, what was found, what to do.
fn text(checks: &[Check], is_terminal: bool) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = match (check.state, is_terminal) {
            (State::Ok, true) => "\u{2713} ",
            (State::Lacks, true) => "\u{b7} ",
            (State::Fails, true) => "\u{2717} ",
            (State::Ok, false) => "ok",
            (State::Lacks, false) => "--",
            (State::Fails, false) => "no",
        };
        let next = check.next.as_deref();
        let next = next.map_or(String::new(), |next| format!("; {next}"));
        let _ = writeln!(text, "{mark} {:width$}  {}{next}", check.name, check.found);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_mark_and_the_next_command() {
        let checks = [
            Check::ok("kernel", "6.18"),
            Check::lacks("gpu", "none", "run `x`"),
            Check::lacks("hbm", "none", "run `y`").asked(),
            Check::ok("dram", "1 GiB").asked(),
        ];
        assert_eq!(
            text(&checks, false),
            "ok kernel  6.18\n-- gpu     none; run `x`\nno hbm     none; run `y`\nok dram    1 GiB\n"
        );
        assert!(text(&checks, true).starts_with("\u{2713}  kernel"));
        assert!(checks[3].asked && checks[3].state == State::Ok);
    }
}
