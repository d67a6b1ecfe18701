//! `larder topo`: what this host is made of, each part with its measured speed or the reason why
//! it has none.

mod measure;
mod show;

use super::error::CliError;
use super::options::TopoOptions;
use super::table::print;
use crate::host::{Disk, HostTree, NetworkLink, NumaNode};
use larder_pool::sys::limits::available_bytes;
use measure::Measured;
use serde::Serialize;

/// What `topo --json` prints. Rates are megabytes per second.
#[derive(Debug, Serialize)]
pub(super) struct TopoReport {
    tiers: Vec<TierReport>,
    numa: Vec<NumaReport>,
    disks: Vec<DiskReport>,
    nics: Vec<NetworkLink>,
    nodes: Vec<NodeReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct TierReport {
    name: String,
    place: String,
    /// `None` where the tier is as large as the model.
    bytes: Option<u64>,
    #[serde(flatten)]
    read: Measured,
}

#[derive(Debug, Serialize)]
pub(super) struct NumaReport {
    #[serde(flatten)]
    node: NumaNode,
    /// Threads that read.
    threads: usize,
    #[serde(flatten)]
    read: Measured,
}

#[derive(Debug, Serialize)]
pub(super) struct DiskReport {
    #[serde(flatten)]
    disk: Disk,
    /// Mean time of the device's requests since the probes were started, if they were.
    request_us: Option<f64>,
    /// What was read.
    path: Option<String>,
    #[serde(flatten)]
    read: Measured,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeReport {
    address: String,
    mem_bytes: Option<u64>,
    free_bytes: Option<u64>,
    round_trip_us: Option<f64>,
    /// Weights in its memory are read where they stand.
    in_place: bool,
    #[serde(flatten)]
    read: Measured,
}

pub(super) fn topo(options: &TopoOptions) -> Result<(), CliError> {
    let tree = HostTree::this();
    let asked = measure::Asked::parse(&options.tier).map_err(CliError::Usage)?;
    let numa = measure::numa(&tree);
    let disks = measure::disks(&tree, &options.files, &asked.folders);
    let nodes: Vec<NodeReport> = asked.nodes.iter().map(measure::node).collect();
    let tiers = measure::tiers(&asked, &numa, &disks, &nodes, available_bytes());
    let report = TopoReport {
        tiers,
        numa,
        disks: disks.into_iter().map(|(report, _)| report).collect(),
        nics: NetworkLink::all(&tree),
        nodes,
    };
    print(options.json, &report, || show::text(&report))
}
