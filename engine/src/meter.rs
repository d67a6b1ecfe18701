//! The disks under the files of a session: what sizes their windows, and what sees their requests.
//!
//! Where `larder heat start` has pinned its maps, `larder_io` counts how long each block device
//! takes. A path to a file reads that of the disk that the file is on; everywhere else it goes by
//! its own times, and says so if they are to size its window.

use crate::host::{Disk, HostTree};
use larder_ebpf::{DiskLatency, Pins};
use larder_pool::path::{DeviceMeter, DeviceTotals, DiskParts, Sizing};
use std::path::Path;

/// How paths to disks are run.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    pub sizing: Sizing,
    /// Where the latency of devices may be pinned.
    pub pins: Option<Pins>,
}

impl DiskOptions {
    /// Windows of fixed size, and nobody who sees the devices.
    pub const PLAIN: Self = Self {
        sizing: Sizing::Fixed,
        pins: None,
    };

    /// What a path to the file or folder `path` has.
    pub fn parts(&self, path: &Path) -> DiskParts {
        let meter = match &self.pins {
            Some(pins) => Meter::open(pins, path),
            None => Err("nobody looked for io_latency".to_owned()),
        };
        let note = match &meter {
            _ if self.sizing == Sizing::Fixed => None,
            Ok((disk, _)) => Some(format!("windows by the latency of {disk} in io_latency")),
            Err(reason) => Some(format!("windows by the times of the paths alone: {reason}")),
        };
        DiskParts {
            sizing: self.sizing,
            meter: meter.ok().map(|(_, meter)| Box::new(meter) as _),
            note,
        }
    }
}

/// See the module.
struct Meter(DiskLatency);

impl Meter {
    /// Of the disk that holds `path`, with its name.
    fn open(pins: &Pins, path: &Path) -> Result<(String, Self), String> {
        let tree = HostTree::this();
        let disks = Disk::all(&tree);
        let disk = Disk::of(&tree, &disks, path);
        let disk = disk.ok_or_else(|| format!("{} is on no disk of its own", path.display()))?;
        let (major, minor) = disk
            .device()
            .ok_or_else(|| format!("{} has no device number", disk.name))?;
        let latency = DiskLatency::open(pins, major, minor).map_err(|error| error.to_string())?;
        Ok((disk.name.clone(), Self(latency)))
    }
}

impl DeviceMeter for Meter {
    fn totals(&mut self) -> Option<DeviceTotals> {
        let latency = self.0.read().ok()?;
        Some(DeviceTotals {
            requests: latency.ios,
            nanos: latency.nanos,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_pins_the_path_goes_by_its_own_times_and_says_so_if_it_matters() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = DiskOptions {
            sizing: Sizing::Latency,
            pins: Some(Pins::new(folder.path())),
        };
        let parts = options.parts(folder.path());
        assert!(parts.meter.is_none());
        let note = parts.note.expect("it is said");
        assert!(
            note.starts_with("windows by the times of the paths alone: "),
            "{note}"
        );
        let fixed = DiskOptions {
            sizing: Sizing::Fixed,
            ..options
        };
        assert!(fixed.parts(folder.path()).note.is_none());
        assert!(DiskOptions::PLAIN.parts(folder.path()).meter.is_none());
    }
}
