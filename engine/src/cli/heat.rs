//! `larder heat`: probes started, shown and stopped, and the heat that they and engines count.

mod map;

mod draw;
mod follow;
mod picture;

use super::error::CliError;
use super::options::{HeatCommand, HeatOptions, HeatPlace, HeatShow, HeatStart};
use super::size::memory;
use super::table::{Table, print, width};
use larder_ebpf::{Heat, Keep, Options, Pins, ProgramStatus, RegionStatus, TierStats};
use map::{ArrayHeat, HeatReport};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Group that `start` gives the pins to when nothing else is said.
const DEFAULT_GROUP: &str = "larder";
/// Tiers by their number in the maps.
const TIERS: [&str; 8] = [
    "hbm", "dram", "cxl", "remote", "vfio", "nvme", "origin", "other",
];

pub(super) fn heat(options: &HeatOptions) -> Result<(), CliError> {
    match &options.command {
        None => show(&options.show),
        Some(HeatCommand::Start(start)) => self::start(start),
        Some(HeatCommand::Status { place, json }) => status(place, *json),
        Some(HeatCommand::Stop { place, keep_heat }) => stop(place, *keep_heat),
        Some(HeatCommand::Follow(options)) => follow::follow(options),
    }
}

fn pins(place: &HeatPlace) -> Pins {
    Pins::new(&place.pins)
}

fn say(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).map_err(CliError::output)
}

fn start(given: &HeatStart) -> Result<(), CliError> {
    let group = larder_ebpf::group_id(&given.group);
    if group.is_none() && given.group != DEFAULT_GROUP {
        let name = &given.group;
        let what = format!("--group {name}: no such group; sudo groupadd {name}");
        return Err(CliError::Usage(what));
    }
    let mut options = Options {
        pins: pins(&given.place),
        group,
        only_tgid: given.pid,
        cgroup: given.cgroup.clone(),
        marked: std::env::current_exe().ok(),
        ..Options::at(larder_ebpf::monotonic_ns())
    };
    if let Some(entries) = given.entries {
        options.entries = entries;
    }
    let report = larder_ebpf::start(&options)?;
    let mut table = Table::default();
    for attached in &report.attached {
        table.row(attached.probe, attached.hooks.join(", "));
    }
    for skipped in &report.skipped {
        let reasons = skipped.reasons.join("; ");
        table.row(skipped.probe, format!("skipped: {reasons}"));
    }
    let kept = if report.is_heat_kept {
        ", with the heat of an earlier start"
    } else {
        ""
    };
    let arrays = format!("arrays of {} blocks{kept}", report.entries);
    table.row(&pins(&given.place).root().display().to_string(), arrays);
    if group.is_none() {
        let next = "only root claims arrays; sudo groupadd larder, then stop and start";
        table.row("no group larder", next);
    }
    say(&table.render(width()))
}

fn stop(place: &HeatPlace, keep_heat: bool) -> Result<(), CliError> {
    let keep = if keep_heat { Keep::Maps } else { Keep::Nothing };
    let stopped = larder_ebpf::stop(&pins(place), keep)?;
    say(&format!(
        "removed {} links, {} programs and {} maps under {}\n",
        stopped.links,
        stopped.programs,
        stopped.maps,
        place.pins.display()
    ))
}

/// What `heat status --json` prints.
#[derive(Debug, Serialize)]
struct StatusReport {
    pins: String,
    version: u32,
    links: Vec<String>,
    programs: Vec<ProgramReport>,
    arrays: Vec<ArrayReport>,
    tiers: Vec<TierReport>,
}

#[derive(Debug, Serialize)]
struct ProgramReport {
    name: String,
    id: u32,
    runs: u64,
    run_ns: u64,
}

#[derive(Debug, Serialize)]
struct ArrayReport {
    array: u32,
    manifest: String,
    owner_pid: u32,
    owner_alive: bool,
    blocks: u64,
}

#[derive(Debug, Serialize)]
struct TierReport {
    tier: &'static str,
    faults: u64,
    samples: u64,
    accesses: u64,
    marks: u64,
    filtered: u64,
    drops: u64,
    ios: u64,
    pages_migrated: u64,
    reclaims: u64,
    media_errors: u64,
}

fn status(place: &HeatPlace, is_json: bool) -> Result<(), CliError> {
    let status = larder_ebpf::status(&pins(place))?;
    let tiers = TIERS.iter().zip(&status.tiers);
    let report = StatusReport {
        pins: place.pins.display().to_string(),
        version: status.settings.version,
        links: status.links.clone(),
        programs: status.programs.iter().map(program).collect(),
        arrays: status.regions.iter().map(array).collect(),
        tiers: tiers.map(|(name, stats)| tier(name, stats)).collect(),
    };
    print(is_json, &report, || status_text(&report))
}

fn program(program: &ProgramStatus) -> ProgramReport {
    ProgramReport {
        name: program.name.clone(),
        id: program.id,
        runs: program.runs,
        run_ns: program.run_ns,
    }
}

fn array(status: &RegionStatus) -> ArrayReport {
    ArrayReport {
        array: status.array,
        manifest: map::manifest_name(status.region.manifest),
        owner_pid: status.region.owner_pid,
        owner_alive: status.is_owner_alive,
        blocks: status.region.block_count,
    }
}

fn tier(tier: &'static str, stats: &TierStats) -> TierReport {
    TierReport {
        tier,
        faults: stats.faults,
        samples: stats.samples,
        accesses: stats.accesses,
        marks: stats.marks,
        filtered: stats.filtered,
        drops: stats.drops,
        ios: stats.ios,
        pages_migrated: stats.pages_migrated,
        reclaims: stats.reclaims,
        media_errors: stats.media_errors,
    }
}

/// What the owner of an array is doing.
fn owner(pid: u32, is_alive: bool) -> String {
    match (pid, is_alive) {
        (0, _) => "given back".to_owned(),
        (pid, true) => format!("process {pid}"),
        (pid, false) => format!("process {pid} has ended; the next engine takes it"),
    }
}

fn status_text(report: &StatusReport) -> String {
    let mut table = Table::default();
    let links = report.links.len();
    let version = report.version;
    let state = match links {
        0 => "stopped, heat kept".to_owned(),
        _ => format!("{links} links, maps of version {version}"),
    };
    table.row(&report.pins, state);
    let ran = report.programs.iter().filter(|program| program.runs > 0);
    for program in ran.clone() {
        let (runs, each) = (program.runs, program.run_ns / program.runs);
        table.row(&program.name, format!("{runs} runs, {each} ns each"));
    }
    if links > 0 && ran.count() == 0 {
        let count = report.programs.len();
        let next = "their runs are counted after sysctl kernel.bpf_stats_enabled=1";
        table.row("programs", format!("{count}; {next}"));
    }
    for array in &report.arrays {
        let owner = owner(array.owner_pid, array.owner_alive);
        let (model, blocks) = (&array.manifest[..12], array.blocks);
        let value = format!("model {model}, {blocks} blocks, {owner}");
        table.row(&format!("block_heat_{}", array.array), value);
    }
    for tier in &report.tiers {
        let counts = [
            ("faults", tier.faults),
            ("samples", tier.samples),
            ("accesses", tier.accesses),
            ("marks", tier.marks),
            ("filtered", tier.filtered),
            ("drops", tier.drops),
            ("ios", tier.ios),
            ("pages migrated", tier.pages_migrated),
            ("reclaims", tier.reclaims),
            ("media errors", tier.media_errors),
        ];
        let seen = counts.iter().filter(|(_, count)| *count > 0);
        let seen: Vec<String> = seen
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        if !seen.is_empty() {
            table.row(&format!("tier {}", tier.tier), seen.join(", "));
        }
    }
    table.render(width())
}

/// Draws the heat of every array that was ever claimed.
fn show(options: &HeatShow) -> Result<(), CliError> {
    let heat = Heat::open(&pins(&options.place))?;
    let mut arrays = Vec::new();
    for (number, region) in (0..).zip(heat.regions()?) {
        if region.generation != 0 {
            let entries = heat.entries(number)?;
            arrays.push(ArrayHeat::new(number, &region, &entries, options.count));
        }
    }
    let report = HeatReport { arrays };
    if let Some(file) = &options.out {
        let bytes = picture::picture(file, &report)?;
        std::fs::write(file, &bytes).map_err(|source| CliError::File {
            path: file.clone(),
            source,
        })?;
        let bytes = memory(bytes.len() as u64);
        let _ = writeln!(std::io::stderr(), "{}: {bytes}", file.display());
        if !options.json {
            return Ok(());
        }
    }
    let is_terminal = std::io::stdout().is_terminal();
    print(options.json, &report, || {
        draw::text(&report, draw::columns(), is_terminal)
    })
}
