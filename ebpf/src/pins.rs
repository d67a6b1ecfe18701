//! Where things are pinned, who may do what with them, and whose they are.
//!
//! ```text
//! /sys/fs/bpf/larder/            root:larder 0755
//!   block_heat_N  regions        0660   engines add and claim
//!   tier_stats io_latency settings  0640   the group reads
//!   events                       0600   a ring buffer has one reader, who writes its position
//!   progs/ links/                0700
//! ```

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use larder_abi::{HEAT_ARRAYS, Plain, VERSION};
use larder_sys::bpf::{Access, Map};
use nix::errno::Errno;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::{ReadError, StartError};

/// Where the pins are unless told otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/larder";

/// Maps with the mode of their pins, the heat arrays aside.
pub(crate) const MAPS: [(&str, u32); 5] = [
    ("regions", 0o660),
    ("tier_stats", 0o640),
    ("io_latency", 0o640),
    ("settings", 0o640),
    ("events", 0o600),
];
const HEAT_MODE: u32 = 0o660;

/// The pins under one folder.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.root.join("progs")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Opens the map `name`, whose values have `value_bytes`.
    pub(crate) fn open(
        &self,
        name: &str,
        value_bytes: usize,
        access: Access,
    ) -> Result<Map, ReadError> {
        let path = self.map(name);
        let map =
            Map::open(&path, access).map_err(|errno| ReadError::of_open(path.clone(), errno))?;
        if map.info().value_bytes as usize == value_bytes {
            Ok(map)
        } else {
            Err(ReadError::Foreign { path })
        }
    }

    /// Refuses maps of another version.
    pub(crate) fn check_version(&self) -> Result<(), ReadError> {
        let path = self.map("settings");
        let found = self.version()?;
        if found == VERSION {
            return Ok(());
        }
        Err(ReadError::OtherVersion {
            path,
            found,
            expected: VERSION,
        })
    }

    /// Version of the maps that are pinned: the first word of the settings, in every version.
    pub(crate) fn version(&self) -> Result<u32, ReadError> {
        let path = self.map("settings");
        let call = |errno| ReadError::of_open(path.clone(), errno);
        let map = Map::open(&path, Access::Read).map_err(call)?;
        let info = map.info();
        if info.key_bytes != 4 || info.value_bytes < 4 {
            return Err(ReadError::Foreign { path });
        }
        let mut value = vec![0; info.value_bytes as usize];
        map.lookup(&0u32.to_ne_bytes(), &mut value, 1)
            .map_err(call)?;
        Ok(u32::get(&value[..4]))
    }

    /// Refuses a place where nothing can be pinned, or where somebody else has pinned.
    pub(crate) fn check_place(&self) -> Result<(), StartError> {
        let mut place = self.root.as_path();
        while !place.exists() {
            place = place.parent().unwrap_or(Path::new("/"));
        }
        let kind = statfs(place).map(|of| of.filesystem_type());
        if kind != Ok(BPF_FS_MAGIC) {
            return Err(StartError::NoBpfFs {
                path: self.root.clone(),
            });
        }
        let Ok(of) = fs::metadata(&self.root) else {
            return Ok(());
        };
        let own = nix::unistd::geteuid().as_raw();
        if of.uid() != own {
            return Err(StartError::ForeignPin {
                path: self.root.clone(),
                uid: of.uid(),
                own,
            });
        }
        let mut links = fs::read_dir(self.links()).into_iter().flatten();
        if links.next().is_some() {
            return Err(StartError::Running {
                path: self.root.clone(),
            });
        }
        Ok(())
    }

    /// Whether maps are pinned, all of them and of this version.
    pub(crate) fn check_maps(&self) -> Result<bool, StartError> {
        let names: Vec<String> = map_names().map(|(name, _)| name).collect();
        if names.iter().all(|name| !self.map(name).exists()) {
            return Ok(false);
        }
        let path = self.root.clone();
        match self.check_version() {
            Ok(()) => {}
            Err(ReadError::OtherVersion {
                found, expected, ..
            }) => {
                return Err(StartError::OtherVersion {
                    path,
                    found,
                    expected,
                });
            }
            Err(_) => {
                let map = "settings".to_owned();
                return Err(StartError::BrokenPins { path, map });
            }
        }
        for map in names {
            if Map::open(&self.map(&map), Access::ReadWrite).is_err() {
                return Err(StartError::BrokenPins { path, map });
            }
        }
        Ok(true)
    }

    /// Makes the folders.
    pub(crate) fn create(&self) -> Result<(), StartError> {
        for (folder, mode) in [
            (self.root.clone(), 0o755),
            (self.programs(), 0o700),
            (self.links(), 0o700),
        ] {
            if !folder.is_dir() {
                fs::create_dir(&folder).map_err(|error| path_error("create", &folder, &error))?;
            }
            set_mode(&folder, mode)?;
        }
        Ok(())
    }

    /// Gives the maps to `group`, each with its mode.
    pub(crate) fn open_to(&self, group: Option<u32>) -> Result<(), StartError> {
        for (name, mode) in map_names() {
            let path = self.map(&name);
            if group.is_some() {
                chown(&path, None, group).map_err(|error| path_error("chown", &path, &error))?;
            }
            set_mode(&path, mode)?;
        }
        Ok(())
    }
}

/// Names of all pinned maps with their modes.
pub(crate) fn map_names() -> impl Iterator<Item = (String, u32)> {
    let arrays = (0..HEAT_ARRAYS).map(|array| (heat_name(array), HEAT_MODE));
    arrays.chain(MAPS.iter().map(|(name, mode)| ((*name).to_owned(), *mode)))
}

pub(crate) fn heat_name(array: u32) -> String {
    format!("block_heat_{array}")
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StartError> {
    let permissions = Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(|error| path_error("chmod", path, &error))
}

pub(crate) fn path_error(what: &'static str, path: &Path, error: &io::Error) -> StartError {
    StartError::Path {
        what,
        path: path.to_path_buf(),
        errno: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
    }
}
