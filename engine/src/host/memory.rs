//! Memory of the host: how much, on which pages, and how much of it may be locked.

use super::HostTree;
use larder_pool::sys::limits::{available_bytes, memlock_bytes};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total_bytes: u64,
    /// What the machine could give without swapping.
    pub machine_free_bytes: u64,
    /// What this process may still take: as above, or less where a memory cgroup is tighter.
    pub free_bytes: u64,
    /// `u64::MAX` when there is no limit.
    pub memlock_bytes: u64,
    /// Reserved pages of 2 MiB, and those of them that are free.
    pub huge_pages: u64,
    pub huge_pages_free: u64,
    /// `always`, `madvise` or `never`; `None` where the kernel has no transparent huge pages.
    pub transparent: Option<String>,
}

impl Memory {
    pub fn read(tree: &HostTree) -> Self {
        let pool = "/sys/kernel/mm/hugepages/hugepages-2048kB";
        let count = |name| tree.number(&format!("{pool}/{name}")).unwrap_or(0);
        let line = |key| tree.kib_line("/proc/meminfo", key).unwrap_or(0);
        let modes = tree.text("/sys/kernel/mm/transparent_hugepage/enabled");
        Self {
            total_bytes: line("MemTotal"),
            machine_free_bytes: line("MemAvailable"),
            free_bytes: available_bytes(),
            memlock_bytes: memlock_bytes(),
            huge_pages: count("nr_hugepages"),
            huge_pages_free: count("free_hugepages"),
            transparent: modes.and_then(|modes| chosen(&modes)),
        }
    }
}

/// The word in brackets of `always [madvise] never`.
fn chosen(modes: &str) -> Option<String> {
    modes.split(['[', ']']).nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::tree::made_up::host;
    use super::*;

    #[test]
    fn pages_and_modes_are_read() {
        let (_folder, tree) = host(&[
            (
                "/proc/meminfo",
                "MemTotal: 2048 kB\nMemAvailable: 1024 kB\n",
            ),
            (
                "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
                "8",
            ),
            (
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never\n",
            ),
        ]);
        let memory = Memory::read(&tree);
        assert_eq!(memory.total_bytes, 2 << 20);
        assert_eq!(memory.machine_free_bytes, 1 << 20);
        assert_eq!((memory.huge_pages, memory.huge_pages_free), (8, 0));
        assert_eq!(memory.transparent.as_deref(), Some("madvise"));
        assert_eq!(chosen("always madvise never"), None);
    }
}
