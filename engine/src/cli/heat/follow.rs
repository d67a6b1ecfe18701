//! `larder heat follow`: what others use of a file that they map, kept in the page cache.

use crate::cli::error::CliError;
use crate::cli::options::HeatFollow;
use crate::cli::size::{memory, parse_size};
use crate::cli::table::{Table, print, width};
use crate::follow::{Follow, Options, Report, largest_file};
use larder_ebpf::Pins;
use larder_pool::sys::limits::available_bytes;
use larder_pool::sys::signals::StopSignals;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// Looking takes no more than one part in so many of our time, and so of a processor's.
const SHARE: u32 = 50;
/// Time between two lines about the state, where it changes.
const SAY: Duration = Duration::from_secs(5);

/// What `heat follow --json` prints.
#[derive(Debug, Serialize)]
struct FollowReport {
    #[serde(flatten)]
    report: Report,
    seconds: f64,
    /// Looks, and the time that they took together.
    looks: u64,
    looking_ms: f64,
}

pub(super) fn follow(given: &HeatFollow) -> Result<(), CliError> {
    let usage = |error| CliError::Usage(format!("--fast: {error}"));
    let budget = parse_size(&given.fast, available_bytes).map_err(usage)?;
    let signals = StopSignals::block().map_err(|source| CliError::Signals { source })?;
    let mut follow = Follow::open(Options {
        path: path(given)?,
        pid: given.pid,
        budget,
        keep: given.keep,
        pins: Pins::new(&given.place.pins),
    })?;
    let report = watch(
        &mut follow,
        &signals,
        given.seconds.map(Duration::from_secs),
    )?;
    print(given.json, &report, || text(&report))
}

/// The file named, or the one that the process named maps.
fn path(given: &HeatFollow) -> Result<PathBuf, CliError> {
    match (&given.file, given.pid) {
        (Some(file), _) => Ok(file.clone()),
        (None, Some(pid)) => Ok(largest_file(pid)?),
        (None, None) => Err(CliError::Usage("name a file, or --pid".to_owned())),
    }
}

/// Looks again and again, until told to stop, the time is over, or the only reader has ended.
fn watch(
    follow: &mut Follow,
    signals: &StopSignals,
    limit: Option<Duration>,
) -> Result<FollowReport, CliError> {
    let start = Instant::now();
    let mut looks = 0;
    let mut looking = Duration::ZERO;
    let mut said = (Duration::ZERO, String::new());
    loop {
        let begun = start.elapsed();
        follow.tick(begun)?;
        let took = start.elapsed().saturating_sub(begun);
        looks += 1;
        looking += took;
        say(follow, begun, &mut said);
        let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
        let pause = EVERY.max(took * SHARE);
        let pause = left.map_or(pause, |left| left.min(pause));
        if pause.is_zero() || follow.is_over() || signals.wait_for(pause) {
            return Ok(FollowReport {
                report: follow.report(),
                seconds: start.elapsed().as_secs_f64(),
                looks,
                looking_ms: looking.as_secs_f64() * 1e3,
            });
        }
    }
}

/// News at once, the state now and then if it is another.
fn say(follow: &mut Follow, now: Duration, said: &mut (Duration, String)) {
    let mut out = std::io::stderr().lock();
    for line in follow.news() {
        let _ = writeln!(out, "note: {line}");
    }
    if now < said.0 {
        return;
    }
    let line = state(&follow.report());
    if line != said.1 {
        let _ = writeln!(out, "{line}");
        *said = (now + SAY, line);
    }
}

fn state(report: &Report) -> String {
    format!(
        "{} hot, {} of {} in memory, {} read ahead",
        memory(report.hot_bytes),
        memory(report.resident_bytes),
        memory(report.chosen_bytes),
        memory(report.brought_bytes)
    )
}

fn text(of: &FollowReport) -> String {
    let report = &of.report;
    let mut table = Table::default();
    let blocks = memory(report.block_bytes);
    let file = report.file.display();
    table.row(
        "file",
        format!("{file}, {} in blocks of {blocks}", memory(report.bytes)),
    );
    for reader in &report.readers {
        table.row(
            &format!("process {}", reader.pid),
            format!("seen by {}", reader.evidence),
        );
    }
    table.row("state", state(report));
    table.row("ranges", report.ranges.len().to_string());
    if report.kept_bytes > 0 {
        table.row("kept", memory(report.kept_bytes));
    }
    if report.lost_bytes > 0 {
        table.row("lost soon after", memory(report.lost_bytes));
    }
    let share = of.looking_ms / 10.0 / of.seconds.max(1e-3);
    let looks = format!(
        "{} in {:.1} s, {share:.2} % of one processor",
        of.looks, of.seconds
    );
    table.row("looks", looks);
    table.render(width())
}
