//! What the kernel lets this process have: memory, locked memory, huge pages.

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use std::fs;
use std::path::Path;

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
    cgroup_headroom().map_or(machine, |room| room.min(machine))
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

/// Room in the tightest memory cgroup on the way from this process to the root.
fn cgroup_headroom() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut tightest: Option<u64> = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, max, current) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        } else {
            continue;
        };
        for level in Path::new(path).ancestors() {
            let folder = Path::new(root).join(level.strip_prefix("/").unwrap_or(level));
            let read = |name| {
                let text = fs::read_to_string(folder.join(name)).ok()?;
                text.trim().parse::<u64>().ok()
            };
            // Version 1 writes a number where there is no limit; then nothing else is of interest.
            let Some(limit) = read(max).filter(|&limit| limit < LIMIT_NONE) else {
                continue;
            };
            if let Some(used) = read(current) {
                let cache = reclaimable(&folder);
                let room = limit.saturating_sub(used.saturating_sub(cache));
                tightest = Some(tightest.map_or(room, |old| old.min(room)));
            }
        }
    }
    tightest
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
    fn this_process_has_memory_and_the_machine_has_room() {
        assert!(resident_bytes() > 64 * 1024);
        assert!(available_bytes() > 0);
        assert!(disk_free_bytes(Path::new("/")).is_some());
        assert_eq!(disk_free_bytes(Path::new("/none/of/these")), None);
    }
}
