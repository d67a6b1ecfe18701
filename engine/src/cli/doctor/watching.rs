//! What larder sees of others on this host: who wants memory, how long disks take, who maps files.

use super::super::size::memory as size;
use super::Check;
use crate::host::{Disk, HostTree, Privileges};
use crate::pressure::HostGauge;
use larder_ebpf::{DiskLatency, HEAT_ARRAYS, Heat, Pins, ReadError, status};
use larder_pool::sys::limits::{MemoryGroup, memory_group};

/// One line each for `--pressure`, `--window latency` and `heat follow`.
pub(super) fn all(tree: &HostTree, pins: &Pins, privileges: &Privileges) -> [Check; 3] {
    let gauge = HostGauge::new(tree, pins);
    [
        pressure(gauge.stalls(), memory_group().as_ref()),
        latency(&Disk::all(tree), pins),
        follow(privileges, &arrays(pins)),
    ]
}

/// An error as what was found, and the command that it ends with.
fn lacks(name: &str, before: &str, error: &str) -> Check {
    let (found, next) = error
        .split_once("; ")
        .unwrap_or((error, "see docs/TRACING.md"));
    Check::lacks(name, format!("{before}{found}"), next)
}

/// What `--pressure` goes by.
fn pressure(stalls: Result<String, String>, group: Option<&MemoryGroup>) -> Check {
    let room = match group {
        None => "room of the machine, no memory cgroup has a limit".to_owned(),
        Some(group) => format!(
            "room of the machine and of {}, a cgroup of version {} with a limit of {}",
            group.folder.display(),
            group.version,
            size(group.limit_bytes)
        ),
    };
    match stalls {
        Ok(names) => Check::ok("pressure", format!("{room}; stalls from {names}")),
        Err(missing) => lacks("pressure", &format!("{room}; of stalls "), &missing),
    }
}

/// The times of each disk's requests, as probes count them.
fn latency(disks: &[Disk], pins: &Pins) -> Check {
    let name = "latency";
    let numbered = disks.iter().filter_map(|disk| Some((disk, disk.device()?)));
    let read = numbered.map(|(disk, (major, minor))| {
        let counted = DiskLatency::open(pins, major, minor)?.read()?;
        let ios = counted.ios;
        Ok(match counted.nanos.checked_div(ios) {
            Some(nanos) => format!("{} {} us in {ios} requests", disk.name, nanos / 1000),
            None => format!("{} no request yet", disk.name),
        })
    });
    let read: Result<Vec<String>, ReadError> = read.collect();
    match read {
        Ok(read) if read.is_empty() => Check::lacks(
            name,
            "no disk to count",
            "windows of --window latency go by the times of the paths",
        ),
        Ok(read) => {
            let found = read.join(", ");
            if is_counting(pins) {
                return Check::ok(name, found);
            }
            let found = format!("{found}, of an earlier start");
            Check::lacks(name, found, "run `larder heat start`")
        }
        Err(error) => lacks(name, "not counted: ", &error.to_string()),
    }
}

fn is_counting(pins: &Pins) -> bool {
    Heat::open(pins).is_ok_and(|heat| heat.is_counting())
}

/// Heat arrays that a reader could have, of all; or why none.
fn arrays(pins: &Pins) -> Result<(usize, usize), String> {
    let status = status(pins).map_err(|error| error.to_string())?;
    if !is_counting(pins) {
        return Err("no probe counts; run `larder heat start`".to_owned());
    }
    let taken = status.regions.iter().filter(|one| one.is_owner_alive);
    let all = HEAT_ARRAYS as usize;
    Ok((all - taken.count().min(all), all))
}

/// Whom `heat follow` can follow, and by what.
fn follow(privileges: &Privileges, arrays: &Result<(usize, usize), String>) -> Check {
    let by = match arrays {
        Ok((0, all)) => format!("page tables: all {all} heat arrays have owners"),
        Ok((free, all)) => format!("probes, {free} of {all} heat arrays free"),
        Err(error) => {
            let reason = error
                .split_once("; ")
                .map_or(error.as_str(), |(why, _)| why);
            format!("page tables: {reason}")
        }
    };
    let may_look = privileges
        .held
        .iter()
        .any(|one| one.name == "cap_sys_ptrace");
    if may_look {
        return Check::ok("follow", format!("any process, by {by}"));
    }
    Check::lacks(
        "follow",
        format!("processes of this user, by {by}"),
        "for those of others run as root, or with cap_sys_ptrace",
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use std::path::PathBuf;

    fn next(check: &Check) -> &str {
        assert_eq!(check.state, State::Lacks, "{check:?}");
        check.next.as_deref().expect("something to do")
    }

    #[test]
    fn pressure_says_which_limit_and_where_stalls_are_told() {
        let psi = || Ok("/proc/pressure/memory".to_owned());
        let free = pressure(psi(), None);
        assert!(free.found.contains("no memory cgroup has a limit"));
        assert!(free.found.ends_with("from /proc/pressure/memory"));
        let group = MemoryGroup {
            version: 2,
            folder: PathBuf::from("/sys/fs/cgroup/a"),
            limit_bytes: 1 << 30,
            room_bytes: 1,
        };
        let tight = pressure(psi(), Some(&group)).found;
        assert!(
            tight.contains("/sys/fs/cgroup/a, a cgroup of version 2"),
            "{tight}"
        );
        assert!(tight.contains("1.0 GiB"), "{tight}");
        let folder = tempfile::tempdir().expect("temp folder");
        let tree = HostTree::below(folder.path());
        let nothing = HostGauge::new(&tree, &Pins::new(folder.path()));
        assert!(next(&pressure(nothing.stalls(), None)).contains("psi=1"));
    }

    #[test]
    fn latency_says_what_to_start() {
        let folder = tempfile::tempdir().expect("temp folder");
        let pins = Pins::new(folder.path().join("pins"));
        assert!(next(&latency(&[], &pins)).contains("--window latency"));
        let disk = Disk {
            name: "vda".to_owned(),
            model: None,
            bytes: 1,
            rotational: false,
            number: "254:0".to_owned(),
        };
        assert!(next(&latency(&[disk], &pins)).contains("larder heat start"));
    }

    #[test]
    fn follow_says_whom_and_by_what() {
        let folder = tempfile::tempdir().expect("temp folder");
        let status = folder.path().join("proc/self/status");
        std::fs::create_dir_all(status.parent().expect("a folder")).expect("made");
        let of = |set: &str| {
            std::fs::write(&status, format!("CapEff:\t{set}\n")).expect("written");
            Privileges::read(&HostTree::below(folder.path()))
        };
        let (nobody, all) = (of("0"), of("000001ffffffffff"));
        let none = arrays(&Pins::new(folder.path()));
        let check = follow(&nobody, &none);
        assert!(next(&check).contains("cap_sys_ptrace"), "{check:?}");
        assert!(check.found.contains("page tables: open "), "{check:?}");
        let check = follow(&all, &Ok((3, 8)));
        assert_eq!(
            check.found,
            "any process, by probes, 3 of 8 heat arrays free"
        );
        assert!(follow(&all, &Ok((0, 8))).found.contains("all 8"));
    }
}
