//! Network links: interfaces with hardware behind them.

use super::HostTree;
use serde::Serialize;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkLink {
    pub name: String,
    pub driver: Option<String>,
    /// `up` or `down`, as the kernel says.
    pub state: String,
    /// Bits per second; `None` where the driver does not say, as most virtual ones.
    pub bits_per_second: Option<u64>,
    /// NUMA node that it stands at.
    pub node: Option<u32>,
}

impl NetworkLink {
    pub fn all(tree: &HostTree) -> Vec<Self> {
        let folder = "/sys/class/net";
        let names = tree.names(folder).into_iter();
        let real = names.filter(|name| tree.exists(&format!("{folder}/{name}/device")));
        real.map(|name| {
            let file = |file: &str| format!("{folder}/{name}/{file}");
            // -1 where there is no carrier or the driver does not know.
            let speed = tree.number(&file("speed")).filter(|&mbit| mbit > 0);
            Self {
                driver: tree.link_name(&file("device/driver")),
                state: tree.text(&file("operstate")).unwrap_or_default(),
                bits_per_second: speed.map(|mbit| mbit * 1_000_000),
                node: tree
                    .number(&file("device/numa_node"))
                    .and_then(|node| u32::try_from(node).ok()),
                name,
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::made_up::host;
    use super::*;

    #[test]
    fn real_interfaces_are_listed() {
        let (_folder, tree) = host(&[
            ("/sys/class/net/eth0/device/numa_node", "-1"),
            ("/sys/class/net/eth0/operstate", "up\n"),
            ("/sys/class/net/eth0/speed", "25000\n"),
            ("/sys/class/net/eth1/device/numa_node", "1"),
            ("/sys/class/net/eth1/speed", "-1\n"),
            ("/sys/class/net/lo/operstate", "unknown\n"),
        ]);
        let links = NetworkLink::all(&tree);
        assert_eq!(links.len(), 2);
        assert_eq!(links[0].bits_per_second, Some(25_000_000_000));
        assert_eq!((links[0].state.as_str(), links[0].node), ("up", None));
        assert_eq!((links[1].bits_per_second, links[1].node), (None, Some(1)));
    }
}
