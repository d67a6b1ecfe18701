//! Starting: check, make the maps, hang the probes, give the pins to the group.
//!
//! 1. Privileges, lockdown, bpf file system, owner and version of what is pinned already.
//! 2. Maps are made and pinned; those of an earlier start are used again, with their heat.
//! 3. Each probe takes its best form, or is skipped with the reasons.
//! 4. Nothing stays open here: the kernel keeps what is pinned.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use larder_abi::{HEAT_ARRAYS, HeatEntry, Plain, SETTINGS_BYTES, Settings, VERSION};
use larder_sys::bpf::Access;

use crate::attach::Attacher;
use crate::btf::Structs;
use crate::cgroup;
use crate::error::{ReadError, StartError, one_line};
use crate::format::Tracefs;
use crate::offsets::Found;
use crate::pins::{Pins, heat_name, map_names, path_error};
use crate::privilege;
use crate::probe::PROBES;
use crate::sample;
use crate::stop;

/// The programs and maps, made by `cargo xtask bpf`; the build refuses one that is older than
/// their sources.
const OBJECT: &[u8] = aya::include_bytes_aligned!("../probes/larder.bpf.o");

/// Entries of one heat array at most: 1 GiB of them.
const ENTRIES_MAX: u32 = 1 << 24;

/// How to start.
#[derive(Clone, Debug)]
pub struct Options {
    pub pins: Pins,
    /// Group that may claim arrays and read counters; without one only the owner may.
    pub group: Option<u32>,
    /// Entries of each heat array.
    pub entries: u32,
    /// Count this process only.
    pub only_tgid: Option<u32>,
    /// Count tasks below this folder of the cgroup (version 2) tree only.
    pub cgroup: Option<PathBuf>,
    /// Page faults per sample where the processor samples no loads.
    pub faults_per_sample: u32,
    /// Reclaim that holds up a task longer is told as an event.
    pub stall_ns: u64,
    /// The monotonic clock now.
    pub now_ns: u64,
    /// Binary whose marks are probed.
    pub marked: Option<PathBuf>,
    /// The kernel's type information.
    pub btf: PathBuf,
}

impl Options {
    /// What `larder heat start` uses unless told otherwise, at the given time.
    pub fn at(now_ns: u64) -> Self {
        Self {
            pins: Pins::new(crate::pins::DEFAULT_ROOT),
            group: None,
            entries: larder_abi::HEAT_ENTRIES,
            only_tgid: None,
            cgroup: None,
            faults_per_sample: 16,
            stall_ns: 10_000_000,
            now_ns,
            marked: None,
            btf: PathBuf::from("/sys/kernel/btf/vmlinux"),
        }
    }
}

/// A probe that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub probe: &'static str,
    /// What it hangs on.
    pub hooks: Vec<String>,
}

/// A probe that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub probe: &'static str,
    /// One reason per form that was tried.
    pub reasons: Vec<String>,
}

/// What came of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub attached: Vec<Attached>,
    pub skipped: Vec<Skipped>,
    /// The maps are those of an earlier start, with their heat.
    pub is_heat_kept: bool,
    /// Entries of each heat array; maps of an earlier start keep the number that they had.
    pub entries: u32,
}

/// Loads the probes and pins them.
pub fn start(options: &Options) -> Result<Report, StartError> {
    if options.entries == 0 || options.entries > ENTRIES_MAX {
        return Err(StartError::Entries {
            entries: options.entries,
            most: ENTRIES_MAX,
        });
    }
    privilege::check()?;
    let pins = &options.pins;
    pins.check_place()?;
    let is_heat_kept = pins.check_maps()?;
    pins.create()?;
    let result = load_and_attach(options, is_heat_kept);
    if result.is_err() {
        // Half a start is none; heat that was there stays. An error here would hide the one that
        // matters.
        let _ = if is_heat_kept {
            stop::remove_programs(pins)
        } else {
            stop::remove_all(pins)
        };
    }
    result
}

fn load_and_attach(options: &Options, is_heat_kept: bool) -> Result<Report, StartError> {
    let pins = &options.pins;
    let type_bytes = fs::read(&options.btf).unwrap_or_default();
    let structs = Structs::parse(&type_bytes);
    let btf = structs
        .as_ref()
        .and_then(|_| Btf::parse(&type_bytes, Endianness::default()).ok());
    let tracefs = Tracefs::find();
    let found = Found::ask(structs.as_ref(), tracefs.as_ref());
    let samples = sample::event(options.faults_per_sample);

    let mut ebpf = load(options, &found, btf.as_ref())?;
    write_settings(options, samples.period)?;
    let processors = aya::util::online_cpus()
        .map_err(|(_, error)| path_error("read", Path::new("/sys/devices/system/cpu"), &error))?;
    let mut attacher = Attacher {
        ebpf: &mut ebpf,
        pins,
        found: &found,
        btf: btf.as_ref(),
        tracefs: tracefs.as_ref(),
        samples,
        marked: options.marked.as_deref(),
        processors: &processors,
    };
    let mut report = Report {
        attached: Vec::new(),
        skipped: Vec::new(),
        is_heat_kept,
        entries: entries(pins)?,
    };
    for probe in &PROBES {
        match attacher.probe(probe) {
            Ok(form) => report.attached.push(Attached {
                probe: probe.name,
                hooks: form.iter().map(|part| part.hook.describe()).collect(),
            }),
            Err(reasons) => report.skipped.push(Skipped {
                probe: probe.name,
                reasons,
            }),
        }
    }
    if report.attached.is_empty() {
        let skipped = report.skipped.iter();
        let reasons: Vec<String> = skipped
            .map(|skip| format!("{}: {}", skip.probe, skip.reasons.join(", ")))
            .collect();
        return Err(StartError::Nothing {
            reasons: reasons.join("; "),
        });
    }
    pins.open_to(options.group)?;
    Ok(report)
}

/// Makes the maps, or opens those that are pinned, and reads the programs.
fn load(options: &Options, found: &Found, btf: Option<&Btf>) -> Result<Ebpf, StartError> {
    let names: Vec<(String, PathBuf)> = map_names()
        .map(|(name, _)| (name.clone(), options.pins.map(&name)))
        .collect();
    let arrays: Vec<String> = (0..HEAT_ARRAYS).map(heat_name).collect();
    let offsets = found.bytes();
    let mut loader = EbpfLoader::new();
    loader.btf(btf).override_global("OFFSETS", &offsets, true);
    for (name, path) in &names {
        loader.map_pin_path(name, Cow::Borrowed(path.as_path()));
    }
    for array in &arrays {
        loader.map_max_entries(array, options.entries);
    }
    loader.load(OBJECT).map_err(|error| StartError::Load {
        reason: one_line(&error),
    })
}

/// Entries that the heat arrays have.
fn entries(pins: &Pins) -> Result<u32, StartError> {
    let name = heat_name(0);
    let broken = |_: ReadError| StartError::BrokenPins {
        path: pins.root().to_path_buf(),
        map: heat_name(0),
    };
    let map = pins
        .open(&name, HeatEntry::BYTES, Access::Read)
        .map_err(broken)?;
    Ok(map.info().entries)
}

fn write_settings(options: &Options, sample_period: u64) -> Result<(), StartError> {
    let (cgroup_id, cgroup_level) = match &options.cgroup {
        Some(folder) => cgroup::find(folder)?,
        None => (0, 0),
    };
    let settings = Settings {
        version: VERSION,
        only_tgid: options.only_tgid.unwrap_or_default(),
        cgroup_id,
        cgroup_level,
        sample_period: sample_period as u32,
        stall_ns: options.stall_ns,
        started_ns: options.now_ns,
    };
    let mut value = [0; SETTINGS_BYTES];
    settings.put(&mut value);
    let broken = |_: ReadError| StartError::BrokenPins {
        path: options.pins.root().to_path_buf(),
        map: "settings".to_owned(),
    };
    let map = options
        .pins
        .open("settings", SETTINGS_BYTES, Access::ReadWrite)
        .map_err(broken)?;
    map.update(&0u32.to_ne_bytes(), &value)
        .map_err(|errno| StartError::Path {
            what: "write",
            path: options.pins.map("settings"),
            errno,
        })
}
