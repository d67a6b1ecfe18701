//! What a run learned of the disks behind its paths.

use crate::cli::size::memory;
use crate::cli::table::Table;
use crate::session::{PathUse, Session};
use larder_pool::path::DiskState;
use larder_pool::units::PathId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// A path to a disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct DiskReport {
    /// `steady`, `busy` or `slow`; null where waits are long and nobody sees the device.
    disk: Option<&'static str>,
    /// Mean time of the device's requests at the last look, where somebody sees them.
    device_us: Option<f64>,
    /// Bytes in flight at the end, at most; null if the window was never full for long.
    window_bytes: Option<u64>,
}

/// The disks that were looked at, by path.
pub(super) fn disks(session: &Session) -> BTreeMap<String, DiskReport> {
    let paths = session.mover().paths().iter().enumerate();
    let reports = paths.filter_map(|(path, info)| {
        let counters = session.mover().counters(PathId::new(path));
        let state = counters.health.state()?;
        let device_ns = counters.device_ns.load(Ordering::Relaxed);
        let window = counters.window_bytes.load(Ordering::Relaxed);
        let report = DiskReport {
            disk: match state {
                DiskState::Steady => Some("steady"),
                DiskState::Busy => Some("busy"),
                DiskState::Slow => Some("slow"),
                DiskState::Unseen => None,
            },
            device_us: (device_ns > 0).then(|| device_ns as f64 / 1e3),
            window_bytes: (window > 0).then_some(window),
        };
        Some((info.name.clone(), report))
    });
    reports.collect()
}

/// Mean wait for a block that was a demand, in microseconds, by the name of its path.
pub(super) fn waits(names: &[String], paths: &[PathUse]) -> BTreeMap<String, f64> {
    let waited = names.iter().zip(paths).filter(|(_, path)| path.demands > 0);
    let each = waited.map(|(name, path)| {
        let mean = path.demand.as_secs_f64() * 1e6 / path.demands as f64;
        (name.clone(), mean)
    });
    each.collect()
}

/// Takes what another run learned of the same disks: each keeps its worst.
pub(in crate::cli) fn join(
    disks: &mut BTreeMap<String, DiskReport>,
    others: &BTreeMap<String, DiskReport>,
) {
    for (path, other) in others {
        let known = disks.entry(path.clone()).or_insert_with(|| other.clone());
        if other.badness() > known.badness() {
            *known = other.clone();
        }
    }
}

impl DiskReport {
    /// Worse states have more of it.
    fn badness(&self) -> u8 {
        match self.disk {
            Some("steady") => 0,
            None => 1,
            Some("busy") => 2,
            Some(_) => 3,
        }
    }
}

/// A row for each that is not steady.
pub(in crate::cli) fn rows(disks: &BTreeMap<String, DiskReport>, table: &mut Table) {
    for (path, report) in disks {
        let device = report.device_us;
        let device = device.map_or(String::new(), |us| format!(", {us:.0} us per request"));
        let window = report
            .window_bytes
            .map_or(String::new(), |bytes| format!(", window {}", memory(bytes)));
        let story = match report.disk {
            Some("steady") => continue,
            Some("busy") => "busy: waits behind others",
            Some(_) => "slow: takes long by itself",
            None => "waits are long; `larder heat start` tells a slow disk from a busy one",
        };
        table.row(
            &format!("disk of {path}"),
            format!("{story}{device}{window}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_runs_each_disk_keeps_its_worst() {
        let report = |disk, us| DiskReport {
            disk,
            device_us: Some(us),
            window_bytes: None,
        };
        let run = |disk, us| BTreeMap::from([("origin>dram".to_owned(), report(disk, us))]);
        let mut disks = BTreeMap::new();
        let runs = [
            (Some("steady"), 1.0),
            (Some("busy"), 2.0),
            (None, 3.0),
            (Some("busy"), 4.0),
        ];
        for (disk, us) in runs {
            join(&mut disks, &run(disk, us));
        }
        assert_eq!(disks, run(Some("busy"), 2.0));
        join(&mut disks, &run(Some("slow"), 5.0));
        let mut table = Table::default();
        rows(&disks, &mut table);
        let said = table.render(usize::MAX);
        assert!(
            said.contains("disk of origin>dram") && said.contains("slow"),
            "{said}"
        );
    }
}
