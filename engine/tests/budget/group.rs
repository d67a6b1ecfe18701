//! A memory cgroup with a limit, of version 2 or 1, below that of this process.
//!
//! Source: the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a tree of cgroups calls its files.
#[derive(Clone, Copy, Debug)]
struct Names {
    limit: &'static str,
    /// Of memory and swap, or of swap alone.
    swap: &'static str,
    peak: &'static str,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
};
const V2: Names = Names {
    limit: "memory.max",
    swap: "memory.swap.max",
    peak: "memory.peak",
};

/// What a group has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Most bytes that were ever charged, page cache and kernel memory too; kernels before 5.19 do
    /// not tell it of version 2.
    pub(crate) peak: Option<u64>,
    /// Times that the limit was in the way.
    pub(crate) hits: u64,
    /// Processes that were killed for want of memory.
    pub(crate) kills: u64,
}

/// See the module; removed on drop.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    names: Names,
}

impl Group {
    /// A group named after this process and `number`, or why there is none.
    pub(crate) fn new(number: usize, limit: u64) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let name = format!("larder-budget-{}-{number}", std::process::id());
        let mut reason = "no memory controller in /proc/self/cgroup".to_owned();
        for (parent, names) in own.lines().flat_map(parents) {
            match Self::below(&parent, names, &name, limit) {
                Ok(group) => return Ok(group),
                Err(error) => reason = format!("{}: {error}", parent.display()),
            }
        }
        Err(reason)
    }

    fn below(parent: &Path, names: Names, name: &str, limit: u64) -> Result<Self, String> {
        let folder = parent.join(name);
        fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let group = Self { folder, names };
        let write = |name: &str, text: String| fs::write(group.folder.join(name), text);
        write(names.limit, limit.to_string())
            .map_err(|error| format!("{}: {error}", names.limit))?;
        // Kernels that count no swap have no such file; then nothing is swapped out either.
        let swap = if names.limit == V1.limit { limit } else { 0 };
        let _ = write(names.swap, swap.to_string());
        group.try_out()?;
        Ok(group)
    }

    /// A folder that may be made need not be one that processes may be moved into.
    fn try_out(&self) -> Result<(), String> {
        let mut joins = self.starts(Path::new("true"));
        let joined = joins.stderr(Stdio::null()).status();
        if joined.is_ok_and(|status| status.success()) {
            Ok(())
        } else {
            Err("no process may be moved into a group there".to_owned())
        }
    }

    /// A command that joins the group and becomes `program`.
    pub(crate) fn starts(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo 0 > \"$0\" && exec \"$@\""])
            .arg(self.folder.join("cgroup.procs"))
            .arg(program);
        command
    }

    pub(crate) fn counted(&self) -> Counted {
        let read = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let number = |name| read(name).trim().parse::<u64>().ok();
        let (events, control) = (read("memory.events"), read("memory.oom_control"));
        Counted {
            peak: number(self.names.peak),
            hits: number("memory.failcnt").unwrap_or_else(|| field(&events, "max")),
            kills: field(&events, "oom_kill") + field(&control, "oom_kill"),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A number of a file of `name number` lines; 0 if it is not there.
fn field(text: &str, name: &str) -> u64 {
    let mut numbers = text.lines().filter_map(|line| {
        let (key, number) = line.split_once(' ')?;
        (key == name).then(|| number.trim().parse().ok())?
    });
    numbers.next().unwrap_or(0)
}

/// Folders in which a group may be made, for a line of /proc/self/cgroup: the own one, then those
/// around it. In version 2 only folders that hand the controller on to those below have a use.
fn parents(line: &str) -> Vec<(PathBuf, Names)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(own)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let has_memory = |list: &str| list.split([',', ' ', '\n']).any(|name| name == "memory");
    let (root, names) = if controllers.is_empty() {
        ("/sys/fs/cgroup", V2)
    } else if has_memory(controllers) {
        ("/sys/fs/cgroup/memory", V1)
    } else {
        return Vec::new();
    };
    let folders = Path::new(own).ancestors().map(|level| {
        let below = level.strip_prefix("/").unwrap_or(level);
        Path::new(root).join(below)
    });
    let hands_on = |folder: &PathBuf| {
        let list = fs::read_to_string(folder.join("cgroup.subtree_control"));
        names.limit == V1.limit || list.is_ok_and(|list| has_memory(&list))
    };
    let folders = folders.filter(|folder| folder.is_dir() && hands_on(folder));
    folders.map(|folder| (folder, names)).collect()
}
