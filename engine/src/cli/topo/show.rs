//! The report of `topo` as text.

use super::measure::Measured;
use super::{DiskReport, NodeReport, NumaReport, TierReport, TopoReport};
use crate::cli::size::{memory, rate};
use crate::cli::table::{Table, width};
use crate::host::NetworkLink;

/// One section per kind of thing, empty ones left out.
pub(super) fn text(report: &TopoReport) -> String {
    let mut text = String::new();
    let mut section = |title: &str, rows: Vec<(String, String)>| {
        if rows.is_empty() {
            return;
        }
        let mut table = Table::default();
        for (label, value) in rows {
            table.row(&label, value);
        }
        text.push_str(title);
        text.push('\n');
        text.push_str(&table.render(width()));
    };
    section("tiers", report.tiers.iter().map(tier).collect());
    section("numa nodes", report.numa.iter().map(numa).collect());
    section("disks", report.disks.iter().map(disk).collect());
    section("network", report.nics.iter().map(link).collect());
    section("memory nodes", report.nodes.iter().map(node).collect());
    text
}

fn read(read: &Measured) -> String {
    match (read.read_mb_s, &read.not_measured) {
        (Some(mb_s), _) => format!("{} read", rate(mb_s * 1e6)),
        (None, Some(reason)) => format!("not measured: {reason}"),
        (None, None) => "not measured".to_owned(),
    }
}

fn tier(tier: &TierReport) -> (String, String) {
    let bytes = tier
        .bytes
        .map_or(String::new(), |bytes| format!(", {}", memory(bytes)));
    let value = format!("{}{bytes}, {}", tier.place, read(&tier.read));
    (tier.name.clone(), value)
}

fn numa(report: &NumaReport) -> (String, String) {
    let node = &report.node;
    let cpus = match node.cpus.len() {
        0 => "no CPUs".to_owned(),
        1 => "1 CPU".to_owned(),
        count => format!("{count} CPUs"),
    };
    let distances: Vec<String> = node.distances.iter().map(u32::to_string).collect();
    let threads = if report.threads == 1 {
        "thread"
    } else {
        "threads"
    };
    let value = format!(
        "{cpus}, {} free of {}, distances {}, {} by {} {threads}",
        memory(node.free_bytes),
        memory(node.memory_bytes),
        distances.join(" "),
        read(&report.read),
        report.threads,
    );
    (format!("node {}", node.node), value)
}

fn disk(report: &DiskReport) -> (String, String) {
    let disk = &report.disk;
    let mut parts = Vec::new();
    parts.extend(disk.model.clone());
    if disk.bytes > 0 {
        parts.push(memory(disk.bytes));
        let kind = if disk.rotational { "rotating" } else { "flash" };
        parts.push(kind.to_owned());
    }
    let request = report.request_us;
    parts.extend(request.map(|us| format!("{us:.0} us per request")));
    let read = read(&report.read);
    parts.push(match &report.path {
        Some(path) => format!("{path}: {read}"),
        None => read,
    });
    (disk.name.clone(), parts.join(", "))
}

fn link(link: &NetworkLink) -> (String, String) {
    let speed = match link.bits_per_second {
        Some(bits) => format!("{} by its driver", rate(bits as f64 / 8.0)),
        None => "speed not told by its driver".to_owned(),
    };
    let driver = link.driver.as_deref().unwrap_or("no driver");
    let node = link
        .node
        .map_or(String::new(), |node| format!(", node {node}"));
    (
        link.name.clone(),
        format!("{driver}, {}, {speed}{node}", link.state),
    )
}

fn node(node: &NodeReport) -> (String, String) {
    let mut parts = Vec::new();
    if let (Some(all), Some(free)) = (node.mem_bytes, node.free_bytes) {
        parts.push(format!("{} free of {}", memory(free), memory(all)));
    }
    if let Some(trip) = node.round_trip_us {
        parts.push(format!("round trip {trip:.0} us"));
    }
    parts.push(read(&node.read));
    if node.in_place {
        parts.push("weights read in place".to_owned());
    }
    (format!("tcp://{}", node.address), parts.join(", "))
}
