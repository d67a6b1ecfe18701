//! What every host is asked, whatever was given.

use super::super::size::memory as size;
use super::{Check, watching};
use crate::host::{Cxl, Disk, Gpu, HostTree, Iommu, Memory, NumaNode, Privileges, Rdma};
use larder_ebpf::{DEFAULT_ROOT, Pins, Ready, StartError};
use larder_pool::sys::ring::try_ring;
use std::path::Path;

/// Locked memory below this leaves the staging of a path unregistered.
const MEMLOCK_ENOUGH: u64 = 64 << 20;

/// Kernel, privileges and devices, in reading order.
pub(super) fn all(tree: &HostTree) -> Vec<Check> {
    let memory = Memory::read(tree);
    let nodes = NumaNode::all(tree);
    let privileges = Privileges::read(tree);
    let pins = Pins::new(DEFAULT_ROOT);
    let [pressure, latency, follow] = watching::all(tree, &pins, &privileges);
    vec![
        kernel(tree),
        rights(&privileges),
        limit(&memory),
        memlock(&memory, &privileges),
        hugepages(&memory),
        transparent(&memory),
        io_uring(tree, try_ring()),
        btf(tree),
        bpf(larder_ebpf::ready(&pins)),
        pressure,
        latency,
        follow,
        iommu(Iommu::read(tree), &cpu_vendor(tree)),
        cxl(&Cxl::read(tree, &nodes)),
        rdma(&Rdma::all(tree)),
        gpu(&Gpu::read(tree)),
        disks(&Disk::all(tree)),
    ]
}

fn kernel(tree: &HostTree) -> Check {
    let release = tree.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.as_str();
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 15) {
        return Check::ok("kernel", release);
    }
    let next = "install Linux 5.15 or later for probes and all of io_uring";
    Check::lacks("kernel", release, next)
}

fn rights(privileges: &Privileges) -> Check {
    let user = if privileges.is_root { "root" } else { "a user" };
    if privileges.missing.is_empty() {
        return Check::ok("privileges", format!("{user} with all capabilities"));
    }
    let missing: Vec<String> = privileges
        .missing
        .iter()
        .map(|missing| format!("{} ({})", missing.name, missing.needed_for))
        .collect();
    let names: Vec<&str> = privileges.missing.iter().map(|one| one.name).collect();
    Check::lacks(
        "privileges",
        format!("{user} without {}", missing.join(", ")),
        format!(
            "engines and nodes need none; for the rest sudo setcap {}+ep $(command -v larder)",
            names.join(",")
        ),
    )
}

fn limit(memory: &Memory) -> Check {
    let free = size(memory.free_bytes);
    let total = size(memory.total_bytes);
    let found = format!("{free} free of {total}");
    if memory.free_bytes < memory.machine_free_bytes {
        let machine = size(memory.machine_free_bytes);
        let found = format!("a memory cgroup leaves {free}; the machine has {machine} free");
        return Check::ok("memory", found);
    }
    Check::ok("memory", format!("{found}, no tighter cgroup"))
}

fn memlock(memory: &Memory, privileges: &Privileges) -> Check {
    let may_lock = privileges.held.iter().any(|one| one.name == "cap_ipc_lock");
    match memory.memlock_bytes {
        u64::MAX => Check::ok("memlock", "no limit"),
        bytes if may_lock => {
            let found = format!("{}, and cap_ipc_lock goes beyond it", size(bytes));
            Check::ok("memlock", found)
        }
        bytes if bytes >= MEMLOCK_ENOUGH => Check::ok("memlock", size(bytes)),
        bytes => Check::lacks(
            "memlock",
            format!("{}: larger buffers are not registered", size(bytes)),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the service",
        ),
    }
}

fn hugepages(memory: &Memory) -> Check {
    let (all, free) = (memory.huge_pages, memory.huge_pages_free);
    if all > 0 {
        let found = format!("{free} of {all} pages of 2 MiB free");
        return Check::ok("hugepages", found);
    }
    let pages = memory.free_bytes / 2 / (2 << 20);
    Check::lacks(
        "hugepages",
        "no pages reserved; transparent ones stand in",
        format!("sudo sysctl vm.nr_hugepages={pages} for half of what is free"),
    )
}

fn transparent(memory: &Memory) -> Check {
    match memory.transparent.as_deref() {
        Some(mode @ ("always" | "madvise")) => Check::ok("thp", mode),
        Some(mode) => Check::lacks(
            "thp",
            format!("{mode}: memory comes in pages of 4 KiB"),
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        None => Check::lacks(
            "thp",
            "the kernel has no transparent huge pages",
            "reserve huge pages instead",
        ),
    }
}

fn io_uring(tree: &HostTree, tried: std::io::Result<()>) -> Check {
    let Err(error) = tried else {
        return Check::ok("io_uring", "a ring was set up and used");
    };
    let switch = tree.number("/proc/sys/kernel/io_uring_disabled");
    let status = tree.text("/proc/self/status").unwrap_or_default();
    let is_filtered = status.lines().any(|line| {
        let mode = line.strip_prefix("Seccomp:");
        mode.is_some_and(|mode| mode.trim() == "2")
    });
    let next = match switch {
        Some(1 | 2) => "sudo sysctl kernel.io_uring_disabled=0",
        _ if is_filtered => "allow io_uring in the seccomp profile of the container",
        _ => "boot a kernel with CONFIG_IO_URING",
    };
    Check::lacks(
        "io_uring",
        format!("refused ({error}); pread threads stand in"),
        next,
    )
}

fn btf(tree: &HostTree) -> Check {
    let path = tree.path("/sys/kernel/btf/vmlinux");
    match std::fs::metadata(&path) {
        Ok(file) => Check::ok("btf", format!("{} of types", size(file.len()))),
        Err(_) => Check::lacks(
            "btf",
            "no /sys/kernel/btf/vmlinux; probes take their other forms",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

fn bpf(ready: Result<Ready, StartError>) -> Check {
    match ready {
        Ok(Ready {
            taken,
            refused,
            is_pinned,
        }) if !taken.is_empty() => {
            let state = if is_pinned {
                "probes run"
            } else {
                "probes can start"
            };
            let refused = if refused.is_empty() {
                String::new()
            } else {
                format!(", not {}", refused.join(", "))
            };
            let found = format!("{state} ({}{refused})", taken.join(", "));
            Check::ok("bpf", found)
        }
        Ok(_) => Check::lacks(
            "bpf",
            "the kernel takes no kind of program",
            "boot a kernel with CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS",
        ),
        Err(error) => {
            let line = error.to_string();
            // Each of these errors ends with what to do.
            let (found, next) = line
                .split_once("; ")
                .unwrap_or((&line, "see docs/TRACING.md"));
            Check::lacks("bpf", found, next)
        }
    }
}

/// `GenuineIntel`, `AuthenticAMD`.
fn cpu_vendor(tree: &HostTree) -> String {
    let text = tree.text("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("vendor_id"));
    let vendor = line.and_then(|line| line.split_once(": "));
    vendor.map_or(String::new(), |(_, vendor)| vendor.to_owned())
}

fn iommu(iommu: Iommu, vendor: &str) -> Check {
    let groups = iommu.groups;
    match (groups, iommu.has_vfio) {
        (0, _) => {
            let parameter = match vendor {
                "GenuineIntel" => "intel_iommu=on iommu=pt",
                _ => "iommu=pt",
            };
            let next = format!("switch it on in the firmware and boot with {parameter}");
            Check::lacks("iommu", "no groups", next)
        }
        (_, false) => Check::lacks(
            "iommu",
            format!("{groups} groups, no vfio"),
            "sudo modprobe vfio-pci",
        ),
        (_, true) => Check::ok("iommu", format!("{groups} groups, vfio is there")),
    }
}

fn cxl(cxl: &Cxl) -> Check {
    if cxl.is_empty() {
        return Check::lacks(
            "cxl",
            "no devices, no dax, no node of memory alone",
            "if cards are in the host: cxl list -v",
        );
    }
    let mut found = Vec::new();
    if !cxl.memdevs.is_empty() {
        found.push(cxl.memdevs.join(", "));
    }
    if !cxl.dax.is_empty() {
        found.push(cxl.dax.join(", "));
    }
    if cxl.nodes.is_empty() {
        let found = format!("{}; no node of it is online", found.join(", "));
        return Check::lacks("cxl", found, "cxl create-region, then daxctl online-memory");
    }
    let nodes: Vec<String> = cxl.nodes.iter().map(|node| format!("node{node}")).collect();
    found.push(format!("memory without CPUs: {}", nodes.join(", ")));
    Check::ok("cxl", found.join(", "))
}

fn rdma(devices: &[Rdma]) -> Check {
    let active = devices.iter().filter(|device| device.state == "ACTIVE");
    let active: Vec<String> = active
        .map(|device| format!("{} {}", device.name, device.rate))
        .collect();
    match (devices.first(), active.is_empty()) {
        (None, _) => Check::lacks(
            "rdma",
            "no devices; nodes are reached over TCP",
            "sudo rdma link add rxe0 type rxe netdev DEVICE makes a slow one for tests",
        ),
        (Some(device), true) => Check::lacks(
            "rdma",
            format!("{} is {}", device.name, device.state),
            "rdma link show, and bring its link up",
        ),
        (Some(_), false) => Check::ok("rdma", active.join(", ")),
    }
}

pub(super) fn gpu(gpu: &Gpu) -> Check {
    match (&gpu.library, gpu.devices.len(), &gpu.driver) {
        (Ok(()), count @ 1.., Some(driver)) => {
            let found = format!("{count} by NVIDIA, driver {driver}; this build has no CUDA");
            Check::ok("gpu", found)
        }
        (_, 0, _) => Check::lacks(
            "gpu",
            "none by NVIDIA",
            "kernels run on the CPU; hbm=sim,SIZE simulates a device",
        ),
        (_, count, None) => Check::lacks(
            "gpu",
            format!("{count} by NVIDIA without a driver"),
            "install NVIDIA's driver, then run nvidia-smi",
        ),
        (library, _, Some(driver)) => {
            let why = library.as_ref().err().map_or("", String::as_str);
            let found = format!("driver {driver}, but {why}");
            Check::lacks("gpu", found, "install the driver's libcuda.so.1")
        }
    }
}

fn disks(disks: &[Disk]) -> Check {
    if disks.is_empty() {
        let next = "give nvme=DIR on a file system with O_DIRECT to spill";
        return Check::lacks("disks", "none that this host shows", next);
    }
    let names = disks.iter().map(|disk| {
        let kind = if disk.rotational { "rotating" } else { "flash" };
        format!("{} {} ({kind})", disk.name, size(disk.bytes))
    });
    let names: Vec<String> = names.collect();
    let found = names.join(", ");
    match direct(Path::new("/proc/self/exe")) {
        Some(true) => Check::ok("disks", format!("{found}; O_DIRECT works where larder is")),
        _ => Check::ok("disks", found),
    }
}

/// Whether the file system of a file reads past the page cache.
pub(super) fn direct(path: &Path) -> Option<bool> {
    let file = larder_pool::sys::file::SourceFile::open(path).ok()?;
    Some(file.is_direct())
}

#[cfg(test)]
mod tests;
