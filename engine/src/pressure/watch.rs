//! What the kernel says about memory.
//!
//! Room is the smaller of `MemAvailable` and what the memory cgroups around us leave. Stalls come
//! from up to three places, and the worst of them counts: the probe `larder_reclaim`, whose
//! counters are pinned by `larder heat start`; the pressure of our own cgroup; the pressure of the
//! host. Each may be missing. Stalls alone shrink nothing while there is room: others may be short
//! of memory in a cgroup that has nothing to do with us.

use super::{Gauge, Reading};
use crate::host::HostTree;
use larder_ebpf::{Heat, Pins};
use larder_pool::sys::limits::available_bytes;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HOST: &str = "/proc/pressure/memory";
/// Where the tree of cgroups of version 2 stands, alone or beside that of version 1.
const TREES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Pressure cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PressureError {
    #[error("read {path}: {source}; give a file like {HOST}")]
    File {
        path: String,
        source: std::io::Error,
    },
    #[error("{path}: no line 'some avg10=.. total=MICROSECONDS'; give a file like {HOST}")]
    Form { path: String },
}

/// Where stalls are told.
enum Stalls {
    /// A file of the form of `/proc/pressure/memory`.
    File(PathBuf),
    Probe(Box<Heat>),
}

impl Stalls {
    fn total(&self) -> Option<Duration> {
        match self {
            Self::File(path) => stalled(&std::fs::read_to_string(path).ok()?),
            Self::Probe(heat) => {
                let tiers = heat.tiers().ok()?;
                let nanos = tiers.iter().map(|tier| tier.reclaim_ns);
                Some(Duration::from_nanos(nanos.fold(0, u64::wrapping_add)))
            }
        }
    }
}

/// Time of the line `some`, in which at least one task was stalled.
///
/// Source: Documentation/accounting/psi.rst; `total` is in microseconds.
fn stalled(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let mut fields = line.split_whitespace();
    let total = fields.find_map(|field| field.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

/// A place and the last that it told.
struct Source {
    stalls: Stalls,
    name: String,
    last: Duration,
}

impl Source {
    fn new(stalls: Stalls, name: String) -> Option<Self> {
        let last = stalls.total()?;
        Some(Self { stalls, name, last })
    }

    /// Time since the last call. A place that is gone, or began anew, tells nothing.
    fn passed(&mut self) -> Duration {
        let Some(total) = self.stalls.total() else {
            return Duration::ZERO;
        };
        let passed = total.saturating_sub(self.last);
        self.last = total;
        passed
    }
}

/// The host that we run on.
pub struct HostGauge {
    sources: Vec<Source>,
    stalled: Duration,
}

impl HostGauge {
    /// Finds what can be read below `tree` and at `pins`.
    pub fn new(tree: &HostTree, pins: &Pins) -> Self {
        let probe = Heat::open(pins).ok().map(|heat| {
            let name = "the probe larder_reclaim".to_owned();
            (Stalls::Probe(Box::new(heat)), name)
        });
        let file = |path: &str| (Stalls::File(tree.path(path)), path.to_owned());
        let own = own_cgroup(tree);
        let places = probe.into_iter().chain(own.as_deref().map(file));
        let sources = places.chain([file(HOST)]);
        Self {
            sources: sources
                .filter_map(|(stalls, name)| Source::new(stalls, name))
                .collect(),
            stalled: Duration::ZERO,
        }
    }

    /// Where stalls are told; or that they are nowhere, and what to do.
    pub fn stalls(&self) -> Result<String, String> {
        let names: Vec<&str> = self.sources.iter().map(|one| one.name.as_str()).collect();
        if names.is_empty() {
            return Err(format!(
                "no {HOST} here; boot the kernel with psi=1, or run `larder heat start`"
            ));
        }
        Ok(names.join(", "))
    }

    /// What is read, for the report; and what is missing.
    pub fn note(&self) -> String {
        match self.stalls() {
            Ok(names) => format!("pressure by free memory and {names}"),
            Err(missing) => format!("pressure by free memory only: {missing}"),
        }
    }
}

impl Gauge for HostGauge {
    fn read(&mut self) -> Reading {
        let passed = self.sources.iter_mut().map(Source::passed);
        self.stalled += passed.max().unwrap_or_default();
        Reading {
            room: Some(available_bytes()),
            stalled: self.stalled,
        }
    }
}

/// The pressure of the cgroup of version 2 that we are in; the root of the tree has the host's.
fn own_cgroup(tree: &HostTree) -> Option<String> {
    let groups = tree.text("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = own.trim_matches('/');
    if own.is_empty() {
        return None;
    }
    let mut paths = TREES
        .iter()
        .map(|root| format!("{root}/{own}/memory.pressure"));
    paths.find(|path| tree.exists(path))
}

/// A file of the form of `/proc/pressure/memory`, read for stalls; it says nothing about room.
#[derive(Debug)]
pub struct FileGauge {
    path: PathBuf,
    last: Duration,
}

impl FileGauge {
    pub fn open(path: &Path) -> Result<Self, PressureError> {
        let name = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| PressureError::File {
            path: name(),
            source,
        })?;
        let last = stalled(&text).ok_or_else(|| PressureError::Form { path: name() })?;
        let path = path.to_owned();
        Ok(Self { path, last })
    }
}

impl Gauge for FileGauge {
    /// A file that is being written, or gone, tells what it told before.
    fn read(&mut self) -> Reading {
        let text = std::fs::read_to_string(&self.path);
        if let Some(total) = text.ok().and_then(|text| stalled(&text)) {
            self.last = self.last.max(total);
        }
        Reading {
            room: None,
            stalled: self.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CALM: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";

    #[test]
    fn the_own_cgroup_and_the_host_are_read_and_the_worst_counts() {
        let folder = tempfile::tempdir().expect("temp folder");
        let tree = HostTree::below(folder.path());
        let nobody = Pins::new(folder.path().join("pins"));
        let none = HostGauge::new(&tree, &nobody);
        assert!(none.note().contains("psi=1"), "{}", none.note());
        let own = "/sys/fs/cgroup/unified/a/b/memory.pressure";
        for (path, text) in [
            ("/proc/self/cgroup", "4:memory:/m\n0::/a/b\n"),
            (own, CALM),
            (HOST, CALM),
        ] {
            let path = tree.path(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let mut gauge = HostGauge::new(&tree, &nobody);
        let note = gauge.note();
        assert!(note.contains(own) && note.contains(HOST), "{note}");
        let first = gauge.read();
        assert_eq!(
            first.stalled,
            Duration::ZERO,
            "what was before does not count"
        );
        assert!(first.room > Some(0));
        let later = CALM.replace("250000", "750000");
        fs::write(tree.path(own), later).expect("written");
        assert_eq!(gauge.read().stalled, Duration::from_millis(500));
        fs::remove_file(tree.path(own)).expect("removed");
        fs::write(tree.path(HOST), CALM.replace("250000", "260000")).expect("written");
        assert_eq!(gauge.read().stalled, Duration::from_millis(510));
    }

    #[test]
    fn a_file_is_checked_once_and_then_believed() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("pressure");
        let error = FileGauge::open(&path).expect_err("nothing there");
        assert!(error.to_string().contains("pressure"), "{error}");
        for text in ["", "full total=3", "some avg10=1", "some total=x"] {
            fs::write(&path, text).expect("written");
            let error = FileGauge::open(&path).expect_err("another form");
            assert!(error.to_string().contains("no line 'some"), "{error}");
        }
        fs::write(&path, CALM).expect("written");
        let mut gauge = FileGauge::open(&path).expect("of that form");
        let told = |gauge: &mut FileGauge| gauge.read().stalled.as_micros();
        assert_eq!(told(&mut gauge), 250_000);
        fs::write(&path, "").expect("written");
        assert_eq!(told(&mut gauge), 250_000);
        fs::write(&path, "some total=300000").expect("written");
        assert_eq!(told(&mut gauge), 300_000);
    }
}
