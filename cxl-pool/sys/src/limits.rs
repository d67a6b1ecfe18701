//! What the kernel lets this process have: memory, locked memory, huge pages.

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that this process may lock; `u64::MAX` when there is no limit.
pub fn memlock_bytes() -> u64 {
    getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft)
}

/// Bytes of memory that the process has of its own: anonymous, shared and huge pages.
///
/// Source: proc(5), `RssAnon`, `RssShmem` and `HugetlbPages` of /proc/self/status. File pages are
/// left out: they are the page cache's.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["RssAnon:", "RssShmem:", "HugetlbPages:"]
        .iter()
        .map(|key| kib_field(&status, key))
        .sum()
}

/// Bytes that can be used without swapping: the smaller of `MemAvailable` and the room left in the
/// memory cgroups around this process (version 1 and 2).
pub fn available_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = kib_field(&meminfo, "MemAvailable:");
    memory_group().map_or(machine, |group| group.room_bytes.min(machine))
}

/// A memory cgroup that limits this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryGroup {
    /// Of the tree of cgroups, 1 or 2.
    pub version: u8,
    pub folder: PathBuf,
    pub limit_bytes: u64,
    /// What is left below the limit.
    pub room_bytes: u64,
}

/// Bytes that this process may still write to the file system of `path`; `None` if it does not say.
pub fn disk_free_bytes(path: &Path) -> Option<u64> {
    let found = statvfs(path).ok()?;
    Some(found.blocks_available() as u64 * found.fragment_size() as u64)
}

fn kib_field(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// No machine has as many bytes.
const LIMIT_NONE: u64 = 1 << 60;

/// Files of a cgroup: its limits, the tighter of which counts, and what is in use.
struct Tree {
    version: u8,
    root: &'static str,
    limits: &'static [&'static str],
    used: &'static str,
}

/// Source: Documentation/admin-guide/cgroup-v2.rst. Above `memory.high` tasks are slowed down until
/// they have freed what is above it, so for us it is a limit like `memory.max`.
const VERSION_2: Tree = Tree {
    version: 2,
    root: "/sys/fs/cgroup",
    limits: &["memory.max", "memory.high"],
    used: "memory.current",
};
const VERSION_1: Tree = Tree {
    version: 1,
    root: "/sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    used: "memory.usage_in_bytes",
};

impl Tree {
    /// The group in `folder`, if it has a limit.
    fn group(&self, folder: PathBuf) -> Option<MemoryGroup> {
        let read = |name: &str| {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        // Version 1 writes a number where there is no limit; then nothing else is of interest.
        let limits = self.limits.iter().filter_map(|name| read(name));
        let limit = limits.min().filter(|&limit| limit < LIMIT_NONE)?;
        let used = read(self.used)?.saturating_sub(reclaimable(&folder));
        Some(MemoryGroup {
            version: self.version,
            folder,
            limit_bytes: limit,
            room_bytes: limit.saturating_sub(used),
        })
    }
}

/// The memory cgroup with the least room on the way from this process to the root.
pub fn memory_group() -> Option<MemoryGroup> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let groups = own.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next());
        let tree = match controllers {
            "" => Some(&VERSION_2),
            _ if controllers.split(',').any(|name| name == "memory") => Some(&VERSION_1),
            _ => None,
        };
        let levels = path.map(|path| Path::new(path).ancestors());
        let levels = levels.into_iter().flatten();
        levels.filter_map(move |level| {
            let tree = tree?;
            tree.group(Path::new(tree.root).join(level.strip_prefix("/").unwrap_or(level)))
        })
    });
    groups.min_by_key(|group| group.room_bytes)
}

/// Page cache of a cgroup that its own limit pushes out.
fn reclaimable(folder: &Path) -> u64 {
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    stat.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, _)| *key == "inactive_file" || *key == "active_file")
        .filter_map(|(_, number)| number.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_bytes() {
        let text = "VmRSS:\t  10 kB\nRssAnon:\t     812 kB\n";
        assert_eq!(kib_field(text, "RssAnon:"), 812 * 1024);
        assert_eq!(kib_field(text, "RssShmem:"), 0);
    }

    #[test]
    fn the_tighter_limit_of_a_group_counts_and_its_page_cache_is_room() {
        let folder = tempfile::tempdir().expect("temp folder");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("written");
        };
        let room = |tree: &Tree| {
            let group = tree.group(folder.path().to_owned());
            group.map(|group| (group.limit_bytes, group.room_bytes))
        };
        write("memory.current", "300\n");
        assert_eq!(room(&VERSION_2), None);
        write("memory.max", "max\n");
        write("memory.high", "max\n");
        assert_eq!(room(&VERSION_2), None);
        write("memory.max", "1000\n");
        assert_eq!(room(&VERSION_2), Some((1000, 700)));
        write("memory.high", "500\n");
        write(
            "memory.stat",
            "anon 200\ninactive_file 60\nactive_file 40\n",
        );
        assert_eq!(room(&VERSION_2), Some((500, 300)));
        write("memory.current", "900\n");
        assert_eq!(room(&VERSION_2), Some((500, 0)));
        write("memory.usage_in_bytes", "5\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(room(&VERSION_1), None);
        write("memory.limit_in_bytes", "1005\n");
        assert_eq!(room(&VERSION_1), Some((1005, 1005)));
    }

    #[test]
    fn this_process_has_memory_and_the_machine_has_room() {
        assert!(resident_bytes() > 64 * 1024);
        assert!(available_bytes() > 0);
        assert!(disk_free_bytes(Path::new("/")).is_some());
        assert_eq!(disk_free_bytes(Path::new("/none/of/these")), None);
    }
}
