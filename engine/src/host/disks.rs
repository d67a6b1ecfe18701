//! Disks: block devices with hardware behind them.

use super::HostTree;
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub name: String,
    pub model: Option<String>,
    pub bytes: u64,
    /// Turns, so that it seeks; `false` for flash.
    pub rotational: bool,
    /// `major:minor`.
    pub number: String,
}

const BLOCK: &str = "/sys/class/block";
/// The kernel counts the size of every block device in these.
const SECTOR: u64 = 512;

impl Disk {
    /// Major and minor number.
    pub fn device(&self) -> Option<(u32, u32)> {
        let (major, minor) = self.number.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// Whole disks: no partitions, no loop, memory or mapped devices.
    pub fn all(tree: &HostTree) -> Vec<Self> {
        let names = tree.names(BLOCK).into_iter();
        let disks = names.filter(|name| {
            let has = |file: &str| tree.exists(&format!("{BLOCK}/{name}/{file}"));
            has("device") && !has("partition")
        });
        disks
            .map(|name| {
                let file = |file: &str| format!("{BLOCK}/{name}/{file}");
                let model = tree.text(&file("device/model"));
                Self {
                    model: model.filter(|model| !model.is_empty()),
                    bytes: tree.number(&file("size")).unwrap_or(0) * SECTOR,
                    rotational: tree.number(&file("queue/rotational")) == Some(1),
                    number: tree.text(&file("dev")).unwrap_or_default(),
                    name,
                }
            })
            .collect()
    }

    /// The disk among `disks` that holds `path`, through a partition or directly; `None` behind a
    /// network, a mapper or memory.
    pub fn of<'a>(tree: &HostTree, disks: &'a [Self], path: &Path) -> Option<&'a Self> {
        let device = std::fs::metadata(path).ok()?.dev();
        let number = format!("{}:{}", major(device), minor(device));
        let names = tree.names(BLOCK);
        let name = names
            .iter()
            .find(|name| tree.text(&format!("{BLOCK}/{name}/dev")) == Some(number.clone()))?;
        disks.iter().find(|disk| {
            disk.name == *name || tree.exists(&format!("{BLOCK}/{}/{name}/partition", disk.name))
        })
    }
}

/// Source: makedev(3), as glibc packs a device number.
const fn major(device: u64) -> u64 {
    (device >> 8 & 0xfff) | (device >> 32 & !0xfff)
}

const fn minor(device: u64) -> u64 {
    (device & 0xff) | (device >> 12 & !0xff)
}

#[cfg(test)]
mod tests {
    use super::super::tree::made_up::host;
    use super::*;

    #[test]
    fn whole_disks_are_listed_and_paths_found_on_them() {
        let own = std::fs::metadata("/proc").expect("is there").dev();
        let number = format!("{}:{}", major(own), minor(own));
        let (_folder, tree) = host(&[
            ("/sys/class/block/nvme0n1/device/model", "Fast 9\n"),
            ("/sys/class/block/nvme0n1/size", "8"),
            ("/sys/class/block/nvme0n1/dev", "259:0"),
            ("/sys/class/block/nvme0n1/queue/rotational", "0"),
            ("/sys/class/block/nvme0n1/nvme0n1p1/partition", "1"),
            ("/sys/class/block/nvme0n1p1/partition", "1"),
            ("/sys/class/block/nvme0n1p1/dev", &number),
            ("/sys/class/block/loop0/size", "8"),
        ]);
        let disks = Disk::all(&tree);
        assert_eq!(disks.len(), 1);
        assert_eq!(disks[0].model.as_deref(), Some("Fast 9"));
        assert_eq!((disks[0].bytes, disks[0].rotational), (4096, false));
        assert_eq!(disks[0].device(), Some((259, 0)));
        let found = Disk::of(&tree, &disks, Path::new("/proc")).expect("by its partition");
        assert_eq!(found.name, "nvme0n1");
        assert_eq!(Disk::of(&tree, &disks, Path::new("/none")), None);
    }
}
