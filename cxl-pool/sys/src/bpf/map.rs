//! Maps by their pins.

use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::call::{Command, bpf, bpf_fd, c_path, halves};
use super::words::ArrayWords;

/// `BPF_F_RDONLY`.
const READ_ONLY: u32 = 1 << 3;

/// What a map is opened for; the file mode of its pin must allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Lookups only. Arrays cannot be mapped through such a descriptor, not even for reading.
    Read,
    ReadWrite,
}

/// Shape of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// The kernel's `enum bpf_map_type`.
    pub kind: u32,
    pub id: u32,
    pub key_bytes: u32,
    pub value_bytes: u32,
    pub entries: u32,
}

/// An open map.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    info: MapInfo,
}

impl Map {
    /// Opens the map pinned at `path`.
    pub fn open(path: &Path, access: Access) -> Result<Self, Errno> {
        let path = c_path(path)?;
        let flags = match access {
            Access::Read => READ_ONLY,
            Access::ReadWrite => 0,
        };
        // SAFETY: the kernel reads the path up to its zero, and it outlives the call.
        let fd = unsafe { bpf_fd(Command::ObjGet, [path.as_ptr() as u64, halves(0, flags)]) }?;
        Self::from_fd(fd)
    }

    /// A descriptor that is a map's; another one is refused.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Errno> {
        // `struct bpf_map_info`, of which the kernel fills what fits.
        let mut info = [0u32; 20];
        let bytes = size_of_val(&info) as u32;
        let words = [
            halves(fd.as_raw_fd() as u32, bytes),
            info.as_mut_ptr() as u64,
        ];
        // SAFETY: the kernel writes at most `bytes` to `info`, which outlives the call.
        unsafe { bpf(Command::ObjInfo, words) }?;
        let [kind, id, key_bytes, value_bytes, entries, ..] = info;
        let info = MapInfo {
            kind,
            id,
            key_bytes,
            value_bytes,
            entries,
        };
        // A program or a link has other facts at these places, with a key of no sensible size.
        if key_bytes > 4096 {
            return Err(Errno::EINVAL);
        }
        Ok(Self { fd, info })
    }

    pub fn info(&self) -> MapInfo {
        self.info
    }

    /// Reads the value of `key` into `value`: that of a per-processor map is one value after the
    /// other, each a multiple of 8 bytes, for every processor that the machine can have.
    pub fn lookup(&self, key: &[u8], value: &mut [u8], processors: u32) -> Result<(), Errno> {
        self.check(key, value.len(), processors);
        let words = [
            self.raw_fd(),
            key.as_ptr() as u64,
            value.as_mut_ptr() as u64,
        ];
        // SAFETY: `check` has made sure that the kernel reads a whole key and writes a whole value.
        unsafe { bpf(Command::MapLookup, words) }.map(|_| ())
    }

    /// Sets the value of `key`, making it if need be. Not for per-processor maps.
    pub fn update(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        self.check(key, value.len(), 1);
        let words = [self.raw_fd(), key.as_ptr() as u64, value.as_ptr() as u64, 0];
        // SAFETY: `check` has made sure that the kernel reads a whole key and a whole value.
        unsafe { bpf(Command::MapUpdate, words) }.map(|_| ())
    }

    /// Replaces `key` by the key behind it, `None` meaning the start; false at the end.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool, Errno> {
        let key_bytes = self.info.key_bytes as usize;
        assert!(key.is_none_or(|key| key.len() == key_bytes), "a whole key");
        assert_eq!(next.len(), key_bytes, "room for a whole key");
        let key = key.map_or(0, |key| key.as_ptr() as u64);
        let words = [self.raw_fd(), key, next.as_mut_ptr() as u64];
        // SAFETY: the key, if there is one, and `next` have the size of the map's keys.
        match unsafe { bpf(Command::MapNextKey, words) } {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Maps an array whose creator allowed it; the map was opened for reading and writing.
    pub fn words(&self) -> Result<ArrayWords, Errno> {
        ArrayWords::map(&self.fd, self.info.value_bytes, self.info.entries)
    }

    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn raw_fd(&self) -> u64 {
        self.fd.as_raw_fd() as u64
    }

    fn check(&self, key: &[u8], value_bytes: usize, processors: u32) {
        let MapInfo {
            key_bytes,
            value_bytes: one,
            ..
        } = self.info;
        assert_eq!(key.len(), key_bytes as usize, "a whole key");
        let is_per_processor = matches!(self.info.kind, 5 | 6 | 10 | 21);
        let want = if is_per_processor {
            one.next_multiple_of(8) as usize * processors as usize
        } else {
            one as usize
        };
        assert!(value_bytes >= want, "room for a whole value");
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Pins a map, program or link at `path`, which does not exist and lies in a BPF file system.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let path = c_path(path)?;
    let words = [path.as_ptr() as u64, halves(object.as_raw_fd() as u32, 0)];
    // SAFETY: the kernel reads the path up to its zero, and it outlives the call.
    unsafe { bpf(Command::ObjPin, words) }.map(|_| ())
}
