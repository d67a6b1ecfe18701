//! Speeds of what `topo` shows.

use super::{DiskReport, NodeReport, NumaReport, TierReport};
use crate::cli::error::one_line;
use crate::cli::tier::{TierSpec, parse_tier};
use crate::host::{
    Disk, HostTree, NumaNode, SpeedError, file_speed, folder_speed, memory_speed, node_speed,
};
use crate::session::{LowerTier, connect};
use larder_ebpf::{DEFAULT_ROOT, DiskLatency, Pins};
use larder_pool::sys::limits::available_bytes;
use larder_pool::sys::numa::allowed_cpus;
use serde::Serialize;
use std::path::PathBuf;

/// A rate, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Measured {
    /// Megabytes per second.
    pub(super) read_mb_s: Option<f64>,
    pub(super) not_measured: Option<String>,
}

impl Measured {
    fn of(result: Result<f64, SpeedError>) -> Self {
        match result {
            Ok(rate) => Self {
                read_mb_s: Some(rate / 1e6),
                not_measured: None,
            },
            Err(error) => Self::not(one_line(&error)),
        }
    }

    fn not(reason: impl Into<String>) -> Self {
        Self {
            read_mb_s: None,
            not_measured: Some(reason.into()),
        }
    }
}

/// The tiers that flags name.
#[derive(Debug, Default)]
pub(super) struct Asked {
    specs: Vec<TierSpec>,
    pub(super) folders: Vec<PathBuf>,
    /// Addresses, each with its token file.
    pub(super) nodes: Vec<(String, Option<PathBuf>)>,
}

impl Asked {
    pub(super) fn parse(tiers: &[String]) -> Result<Self, String> {
        let mut asked = Self::default();
        for text in tiers {
            let spec = parse_tier(text, available_bytes)?;
            match &spec {
                TierSpec::Lower(LowerTier::Nvme { folder, .. }) => {
                    asked.folders.push(folder.clone());
                }
                TierSpec::Lower(LowerTier::Remote {
                    address,
                    token_file,
                    ..
                }) => asked.nodes.push((address.clone(), token_file.clone())),
                _ => {}
            }
            asked.specs.push(spec);
        }
        Ok(asked)
    }
}

/// Reads the memory of every NUMA node from its own CPUs, or from all where it has none.
pub(super) fn numa(tree: &HostTree) -> Vec<NumaReport> {
    let allowed = allowed_cpus().unwrap_or_default();
    let mut nodes = NumaNode::all(tree);
    if nodes.is_empty() {
        // A kernel without NUMA: one node, without a number that memory could be bound to.
        return vec![NumaReport {
            threads: allowed.len(),
            read: Measured::of(memory_speed(None, &allowed)),
            node: NumaNode {
                node: 0,
                cpus: allowed,
                memory_bytes: 0,
                free_bytes: available_bytes(),
                distances: vec![10],
            },
        }];
    }
    let reports = nodes.drain(..).map(|node| {
        let own: Vec<usize> = node
            .cpus
            .iter()
            .copied()
            .filter(|cpu| allowed.contains(cpu))
            .collect();
        let cpus = if node.cpus.is_empty() { &allowed } else { &own };
        let read = if node.memory_bytes == 0 {
            Measured::not("it has no memory")
        } else if cpus.is_empty() {
            Measured::not("this process may run on none of its CPUs")
        } else {
            Measured::of(memory_speed(Some(node.node), cpus))
        };
        NumaReport {
            threads: cpus.len(),
            read,
            node,
        }
    });
    reports.collect()
}

/// Reads each file, and a file made in each folder; the other disks are listed unmeasured. With
/// each report comes the path that it stands for.
pub(super) fn disks(
    tree: &HostTree,
    files: &[PathBuf],
    folders: &[PathBuf],
) -> Vec<(DiskReport, Option<PathBuf>)> {
    let disks = Disk::all(tree);
    let mut reports = Vec::new();
    let mut measured = Vec::new();
    let files = files.iter().map(|path| (path, path.is_dir()));
    for (path, is_folder) in files.chain(folders.iter().map(|path| (path, true))) {
        let speed = if is_folder {
            folder_speed(path)
        } else {
            file_speed(path)
        };
        let disk = Disk::of(tree, &disks, path).cloned();
        measured.extend(disk.as_ref().map(|disk| disk.name.clone()));
        let report = DiskReport {
            request_us: disk.as_ref().and_then(request_us),
            disk: disk.unwrap_or_else(|| Disk {
                name: "unknown".to_owned(),
                model: None,
                bytes: 0,
                rotational: false,
                number: String::new(),
            }),
            path: Some(path.display().to_string()),
            read: Measured::of(speed),
        };
        reports.push((report, Some(path.clone())));
    }
    for disk in disks.iter().filter(|disk| !measured.contains(&disk.name)) {
        let report = DiskReport {
            request_us: request_us(disk),
            disk: disk.clone(),
            path: None,
            read: Measured::not("name a file or folder on it"),
        };
        reports.push((report, None));
    }
    reports
}

/// Mean time of a disk's requests, where the probes count them and had any.
fn request_us(disk: &Disk) -> Option<f64> {
    let (major, minor) = disk.device()?;
    let pinned = DiskLatency::open(&Pins::new(DEFAULT_ROOT), major, minor).ok()?;
    let latency = pinned.read().ok().filter(|latency| latency.ios > 0)?;
    Some(latency.nanos as f64 / latency.ios as f64 / 1e3)
}

/// Connects to a node and reads memory that it lends.
pub(super) fn node((address, token_file): &(String, Option<PathBuf>)) -> NodeReport {
    let mut report = NodeReport {
        address: address.clone(),
        mem_bytes: None,
        free_bytes: None,
        round_trip_us: None,
        in_place: false,
        read: Measured::default(),
    };
    let client = match connect(address, token_file.as_deref()) {
        Ok(client) => client,
        Err(error) => {
            report.read = Measured::not(one_line(&error));
            return report;
        }
    };
    if let Ok(info) = client.info() {
        report.mem_bytes = Some(info.mem_bytes);
        report.free_bytes = Some(info.free_bytes);
        report.in_place = client.hands_over().unwrap_or(false);
    }
    match node_speed(&client) {
        Ok(speed) => {
            report.round_trip_us = Some(speed.round_trip.as_secs_f64() * 1e6);
            report.read = Measured::of(Ok(speed.get));
        }
        Err(error) => report.read = Measured::of(Err(error)),
    }
    report
}

/// The tiers of a run with these flags, with what was measured of the parts they stand on.
pub(super) fn tiers(
    asked: &Asked,
    numa: &[NumaReport],
    disks: &[(DiskReport, Option<PathBuf>)],
    nodes: &[NodeReport],
    free: u64,
) -> Vec<TierReport> {
    let memory = |node: Option<u32>| {
        let found = numa
            .iter()
            .find(|report| node.is_none_or(|node| report.node.node == node));
        found.map_or_else(|| Measured::not("no such node"), |found| found.read.clone())
    };
    let tier = |name: &str, place: String, bytes, read| TierReport {
        name: name.to_owned(),
        place,
        bytes,
        read,
    };
    let on = |node: Option<u32>| node.map_or("any node".to_owned(), |node| format!("node {node}"));
    let mut has_fast = false;
    let mut tiers = Vec::new();
    for spec in &asked.specs {
        tiers.push(match spec {
            TierSpec::Origin { .. } => {
                let read = Measured::not("it is as fast as the disk of the model");
                tier("origin", "the model files".to_owned(), None, read)
            }
            TierSpec::Dram { bytes, node, .. } => {
                has_fast = true;
                tier("dram", on(*node), Some(*bytes), memory(*node))
            }
            TierSpec::Hbm { bytes, .. } => {
                has_fast = true;
                tier("hbm", "simulated".to_owned(), Some(*bytes), memory(None))
            }
            TierSpec::Lower(LowerTier::Nvme { folder, bytes, .. }) => {
                let of_folder = disks.iter().find(|(_, path)| path.as_ref() == Some(folder));
                let read = of_folder.map(|(report, _)| report.read.clone());
                let place = folder.display().to_string();
                tier("nvme", place, Some(*bytes), read.unwrap_or_default())
            }
            TierSpec::Lower(LowerTier::Remote { address, .. }) => {
                let node = nodes.iter().find(|node| node.address == *address);
                let bytes = node.and_then(|node| node.free_bytes);
                let read = node.map(|node| node.read.clone()).unwrap_or_default();
                tier("remote", format!("tcp://{address}"), bytes, read)
            }
        });
    }
    if !has_fast {
        let bytes = Some((free as f64 * 0.8) as u64);
        tiers.insert(0, tier("dram", on(None), bytes, memory(None)));
    }
    tiers
}
