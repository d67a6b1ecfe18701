//! What runs, what it cost and what it counted.

use std::fs;

use aya::programs::ProgramInfo;
use larder_abi::{Region, Settings, TIERS, TierStats};

use crate::error::ReadError;
use crate::pins::Pins;
use crate::process::Owner;
use crate::read::Heat;

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    pub name: String,
    pub id: u32,
    /// Runs and their time; zero unless `kernel.bpf_stats_enabled` is 1.
    pub runs: u64,
    pub run_ns: u64,
}

/// A claim that was ever made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    /// The heat array of this number.
    pub array: u32,
    pub region: Region,
    pub is_owner_alive: bool,
}

/// State of the probes.
#[derive(Clone, Debug)]
pub struct Status {
    pub settings: Settings,
    /// Empty where the caller may not look into the folder of programs.
    pub programs: Vec<ProgramStatus>,
    /// Names of the pinned links.
    pub links: Vec<String>,
    pub regions: Vec<RegionStatus>,
    pub tiers: [TierStats; TIERS as usize],
}

/// Reads the state of the probes.
pub fn status(pins: &Pins) -> Result<Status, ReadError> {
    let heat = Heat::open(pins)?;
    let mut regions = Vec::new();
    for (array, region) in (0..).zip(heat.regions()?) {
        if region.generation != 0 {
            let owner = Owner {
                pid: region.owner_pid,
                start: region.owner_start,
            };
            regions.push(RegionStatus {
                array,
                region,
                is_owner_alive: Owner::from_word(owner.word()).is_some_and(Owner::is_alive),
            });
        }
    }
    Ok(Status {
        settings: heat.settings()?,
        programs: programs(pins),
        links: names(&pins.links()),
        regions,
        tiers: heat.tiers()?,
    })
}

fn programs(pins: &Pins) -> Vec<ProgramStatus> {
    let names = names(&pins.programs());
    let status = names.into_iter().filter_map(|name| {
        let info = ProgramInfo::from_pin(pins.programs().join(&name)).ok()?;
        Some(ProgramStatus {
            name,
            id: info.id(),
            runs: info.run_count(),
            run_ns: info.run_time().as_nanos() as u64,
        })
    });
    status.collect()
}

/// Names in a folder, in order; none if it cannot be read.
fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
