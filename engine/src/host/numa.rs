//! NUMA nodes: their CPUs, memory and distances.

use super::HostTree;
use serde::Serialize;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NumaNode {
    pub node: u32,
    /// None on a node of memory alone, as CXL memory makes.
    pub cpus: Vec<usize>,
    pub memory_bytes: u64,
    pub free_bytes: u64,
    /// Distance to each node in the order of their numbers, 10 being its own.
    pub distances: Vec<u32>,
}

const NODES: &str = "/sys/devices/system/node";

impl NumaNode {
    /// All nodes in order; none on a kernel without NUMA.
    pub fn all(tree: &HostTree) -> Vec<Self> {
        let names = tree.names(NODES);
        let numbers = names
            .iter()
            .filter_map(|name| name.strip_prefix("node")?.parse().ok());
        let mut nodes: Vec<Self> = numbers.map(|node| Self::read(tree, node)).collect();
        nodes.sort_by_key(|node| node.node);
        nodes
    }

    fn read(tree: &HostTree, node: u32) -> Self {
        let folder = format!("{NODES}/node{node}");
        let text = |name: &str| tree.text(&format!("{folder}/{name}")).unwrap_or_default();
        let line = |key| tree.kib_line(&format!("{folder}/meminfo"), key);
        let distances = text("distance");
        Self {
            node,
            cpus: parse_list(&text("cpulist")),
            memory_bytes: line("MemTotal").unwrap_or(0),
            free_bytes: line("MemFree").unwrap_or(0),
            distances: distances
                .split_whitespace()
                .filter_map(|distance| distance.parse().ok())
                .collect(),
        }
    }
}

/// Numbers of a list as the kernel writes it, `0-3,8`.
pub fn parse_list(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::made_up::host;
    use super::*;

    #[test]
    fn nodes_without_cpus_are_seen() {
        let (_folder, tree) = host(&[
            ("/sys/devices/system/node/node0/cpulist", "0-1,4\n"),
            ("/sys/devices/system/node/node0/distance", "10 20\n"),
            (
                "/sys/devices/system/node/node0/meminfo",
                "Node 0 MemTotal:  2 kB\nNode 0 MemFree:  1 kB\n",
            ),
            ("/sys/devices/system/node/node10/cpulist", "\n"),
            ("/sys/devices/system/node/online", "0,10\n"),
        ]);
        let nodes = NumaNode::all(&tree);
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0].cpus, [0, 1, 4]);
        assert_eq!((nodes[0].memory_bytes, nodes[0].free_bytes), (2048, 1024));
        assert_eq!(nodes[0].distances, [10, 20]);
        assert_eq!((nodes[1].node, nodes[1].cpus.len()), (10, 0));
    }
}
