//! Stopping: what is unpinned and used by nobody, the kernel frees.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::StopError;
use crate::pins::{Pins, map_names};

/// What stays after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// The maps, so that the next start finds the heat.
    Maps,
}

/// What a stop removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    pub programs: u32,
    pub links: u32,
    pub maps: u32,
}

/// Detaches and unpins the probes. Engines keep the arrays that they have mapped.
pub fn stop(pins: &Pins, keep: Keep) -> Result<Stopped, StopError> {
    if !pins.root().is_dir() {
        return Err(StopError::NotStarted {
            path: pins.root().to_path_buf(),
        });
    }
    let result = match keep {
        Keep::Maps => remove_programs(pins),
        Keep::Nothing => remove_all(pins),
    };
    result.map_err(|(path, error)| StopError::Remove { path, error })
}

type Removed = Result<Stopped, (PathBuf, io::Error)>;

/// Removes everything that `start` makes, and the folder if nothing else is in it.
pub(crate) fn remove_all(pins: &Pins) -> Removed {
    let mut stopped = remove_programs(pins)?;
    for (name, _) in map_names() {
        stopped.maps += remove(pins.map(&name))?;
    }
    match fs::remove_dir(pins.root()) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
            Err((pins.root().to_path_buf(), error))
        }
        _ => Ok(stopped),
    }
}

/// Links first: without them no program runs any more.
pub(crate) fn remove_programs(pins: &Pins) -> Removed {
    let mut stopped = Stopped::default();
    for (folder, count) in [
        (pins.links(), &mut stopped.links),
        (pins.programs(), &mut stopped.programs),
    ] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err((folder, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| (folder.clone(), error))?;
            *count += remove(entry.path())?;
        }
        fs::remove_dir(&folder).map_err(|error| (folder, error))?;
    }
    Ok(stopped)
}

fn remove(path: PathBuf) -> Result<u32, (PathBuf, io::Error)> {
    match fs::remove_file(&path) {
        Ok(()) => Ok(1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err((path, error)),
    }
}
