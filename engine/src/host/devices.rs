//! Devices that tiers stand on: CXL memory, IOMMU and VFIO, RDMA, GPUs.

use super::{HostTree, NumaNode};
use larder_pool::sys::library::try_load;

/// CXL memory as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cxl {
    /// Memory devices, `mem0`.
    pub memdevs: Vec<String>,
    /// Devices that a process maps, `dax0.0`.
    pub dax: Vec<String>,
    /// NUMA nodes of memory without CPUs.
    pub nodes: Vec<u32>,
}

impl Cxl {
    pub fn read(tree: &HostTree, nodes: &[NumaNode]) -> Self {
        let devices = tree.names("/sys/bus/cxl/devices");
        let bare = |node: &&NumaNode| node.cpus.is_empty() && node.memory_bytes > 0;
        Self {
            memdevs: devices
                .into_iter()
                .filter(|name| name.starts_with("mem"))
                .collect(),
            dax: tree.names("/sys/bus/dax/devices"),
            nodes: nodes.iter().filter(bare).map(|node| node.node).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.memdevs.is_empty() && self.dax.is_empty() && self.nodes.is_empty()
    }
}

/// What direct access to PCI devices needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iommu {
    pub groups: usize,
    /// `/dev/vfio/vfio` or `/dev/iommu` is there.
    pub has_vfio: bool,
}

impl Iommu {
    pub fn read(tree: &HostTree) -> Self {
        Self {
            groups: tree.names("/sys/kernel/iommu_groups").len(),
            has_vfio: tree.exists("/dev/vfio/vfio") || tree.exists("/dev/iommu"),
        }
    }
}

/// An RDMA device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rdma {
    pub name: String,
    /// State of its first port, `ACTIVE`.
    pub state: String,
    /// `100 Gb/sec (4X EDR)`.
    pub rate: String,
}

impl Rdma {
    pub fn all(tree: &HostTree) -> Vec<Self> {
        let folder = "/sys/class/infiniband";
        let devices = tree.names(folder).into_iter().map(|name| {
            let port = |file| tree.text(&format!("{folder}/{name}/ports/1/{file}"));
            let state = port("state").unwrap_or_default();
            // The kernel writes `4: ACTIVE`.
            let state = state.rsplit(' ').next().unwrap_or_default().to_owned();
            let rate = port("rate").unwrap_or_default();
            Self { name, state, rate }
        });
        devices.collect()
    }
}

/// GPUs, and whether CUDA could drive them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// PCI addresses of NVIDIA display and compute devices.
    pub devices: Vec<String>,
    /// Version of the kernel's driver.
    pub driver: Option<String>,
    /// Why the library of the driver does not load.
    pub library: Result<(), String>,
}

const CUDA_LIBRARY: &str = "libcuda.so.1";

impl Gpu {
    pub fn read(tree: &HostTree) -> Self {
        let folder = "/sys/bus/pci/devices";
        let is_gpu = |name: &String| {
            let number = |file| tree.number(&format!("{folder}/{name}/{file}"));
            number("vendor") == Some(0x10de) && number("class").is_some_and(|c| c >> 16 == 3)
        };
        let version = tree.text("/proc/driver/nvidia/version");
        let driver = version.and_then(|text| {
            let mut words = text.split_whitespace();
            words
                .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
                .map(str::to_owned)
        });
        Self {
            devices: tree.names(folder).into_iter().filter(is_gpu).collect(),
            driver,
            library: try_load(CUDA_LIBRARY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::made_up::host;
    use super::*;

    #[test]
    fn devices_are_found() {
        let gpu = "/sys/bus/pci/devices/0000:01:00.0";
        let (_folder, tree) = host(&[
            ("/sys/bus/cxl/devices/mem0/ram/size", "0x100"),
            ("/sys/bus/cxl/devices/root0/uevent", ""),
            ("/sys/bus/dax/devices/dax0.0/size", "1"),
            ("/sys/class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n"),
            (
                "/sys/class/infiniband/rxe0/ports/1/rate",
                "2.5 Gb/sec (1X SDR)\n",
            ),
            ("/sys/kernel/iommu_groups/0/type", "DMA"),
            ("/dev/vfio/vfio", ""),
            (&format!("{gpu}/vendor"), "0x10de"),
            (&format!("{gpu}/class"), "0x030200"),
            (
                "/proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.10  Mon",
            ),
        ]);
        let node = NumaNode {
            node: 2,
            cpus: Vec::new(),
            memory_bytes: 1,
            free_bytes: 1,
            distances: Vec::new(),
        };
        let cxl = Cxl::read(&tree, &[node]);
        assert_eq!(cxl.memdevs, ["mem0"]);
        assert_eq!((cxl.dax, cxl.nodes), (vec!["dax0.0".to_owned()], vec![2]));
        assert_eq!(Rdma::all(&tree)[0].state, "ACTIVE");
        let iommu = Iommu::read(&tree);
        assert_eq!((iommu.groups, iommu.has_vfio), (1, true));
        let gpu = Gpu::read(&tree);
        assert_eq!(gpu.devices, ["0000:01:00.0"]);
        assert_eq!(gpu.driver.as_deref(), Some("570.86.10"));
        let (_folder, bare) = host(&[]);
        assert!(Cxl::read(&bare, &[]).is_empty());
        assert_eq!(Gpu::read(&bare).driver, None);
    }
}
