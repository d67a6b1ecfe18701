//! Who maps a file: what `/proc/PID/maps` says of every process that lets us look.

use super::cut::Stretch;
use super::error::FollowError;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Smallest file that a process is followed for when none is named.
const FILE_LEAST: u64 = 1 << 20;

/// A file as lines of `/proc/PID/maps` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    inode: u64,
    /// Major and minor number. Some file systems show another one here than there.
    device: (u64, u64),
    path: PathBuf,
}

/// A process and where it maps the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapper {
    pub(crate) pid: u32,
    /// When it started: a number is used again, the pair is not.
    pub(crate) started: u32,
    pub(crate) stretches: Vec<Stretch>,
}

impl Identity {
    pub(crate) fn new(path: &Path, of: &Metadata) -> Self {
        let dev = of.dev();
        Self {
            inode: of.ino(),
            // The kernel's `new_encode_dev`, as the C library passes it on.
            device: (
                (dev >> 8 & 0xfff) | (dev >> 32 & !0xfff),
                (dev & 0xff) | (dev >> 12 & !0xff),
            ),
            path: path.to_path_buf(),
        }
    }

    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.inode, self.device) == (other.inode, other.device)
    }

    fn is_of(&self, line: &Line<'_>) -> bool {
        let is_named = || Path::new(line.path) == self.path;
        line.inode == self.inode && (line.device == self.device || is_named())
    }
}

/// One line of `/proc/PID/maps`.
struct Line<'a> {
    start: u64,
    end: u64,
    offset: u64,
    device: (u64, u64),
    inode: u64,
    path: &'a str,
}

fn line(text: &str) -> Option<Line<'_>> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut fields = text.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let _permissions = fields.next()?;
    let offset = hex(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?.parse().ok()?;
    Some(Line {
        start: hex(start)?,
        end: hex(end)?,
        offset,
        device: (hex(major)?, hex(minor)?),
        inode,
        path: fields.next().unwrap_or_default().trim_start(),
    })
}

/// Where the process with these `maps` has the file; what lies side by side is one stretch.
pub(crate) fn stretches(maps: &str, file: &Identity) -> Vec<Stretch> {
    let mut found: Vec<Stretch> = Vec::new();
    let lines = maps.lines().filter_map(line);
    for line in lines.filter(|line| file.is_of(line)) {
        let last = found.last_mut().filter(|last| {
            last.addresses.end == line.start
                && last.offset + (last.addresses.end - last.addresses.start) == line.offset
        });
        match last {
            Some(last) => last.addresses.end = line.end,
            None => found.push(Stretch {
                addresses: line.start..line.end,
                offset: line.offset,
            }),
        }
    }
    found
}

/// Every process that maps `file`, or process `only` if it does. Processes that run this program
/// are left out: they look at the file's pages and read none of them.
pub(crate) fn mappers(file: &Identity, only: Option<u32>) -> Vec<Mapper> {
    let pids = match only {
        Some(pid) => vec![pid],
        None => processes(),
    };
    let own = fs::read_link("/proc/self/exe").ok();
    let found = pids.into_iter().filter_map(|pid| {
        let started = larder_ebpf::started(pid)?;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let stretches = stretches(&maps, file);
        let is_ours = || own.is_some() && fs::read_link(format!("/proc/{pid}/exe")).ok() == own;
        // The same process before and after, or the maps may be another's.
        let is_same = || larder_ebpf::started(pid) == Some(started);
        (!stretches.is_empty() && is_same() && !is_ours()).then_some(Mapper {
            pid,
            started,
            stretches,
        })
    });
    found.collect()
}

fn processes() -> Vec<u32> {
    let folder = fs::read_dir("/proc").into_iter().flatten().flatten();
    folder
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn maps(pid: u32) -> Result<String, FollowError> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"));
    maps.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => FollowError::NotAllowed { pid },
        _ => FollowError::NoProcess { pid },
    })
}

/// When process `pid` started, if it is there and its mappings may be read.
pub(crate) fn check(pid: u32) -> Result<u32, FollowError> {
    maps(pid)?;
    larder_ebpf::started(pid).ok_or(FollowError::NoProcess { pid })
}

/// The largest file that process `pid` maps.
pub(crate) fn largest_file(pid: u32) -> Result<PathBuf, FollowError> {
    let maps = maps(pid)?;
    let files = maps
        .lines()
        .filter_map(line)
        .filter(|line| line.inode != 0 && line.path.starts_with('/'));
    let regular = files.filter_map(|line| {
        let of = fs::metadata(line.path).ok().filter(Metadata::is_file)?;
        let is_mapped = Identity::new(Path::new(line.path), &of).is_of(&line);
        (is_mapped && of.len() >= FILE_LEAST).then(|| (of.len(), PathBuf::from(line.path)))
    });
    let largest = regular.max_by_key(|(bytes, _)| *bytes);
    largest
        .map(|(_, path)| path)
        .ok_or(FollowError::NoMapping { pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0000010000 r--s 00000000 fe:00 77                         /srv/a model.gguf
7f0000010000-7f0000020000 r--s 00010000 fe:00 77                         /srv/a model.gguf
7f0000020000-7f0000030000 r--s 00030000 fe:00 77                         /srv/a model.gguf (deleted)
7f0000030000-7f0000040000 rw-p 00000000 00:00 0 
7f0000040000-7f0000050000 r--p 00000000 fe:01 77                         /other
7f0000050000-7f0000060000 r--p 00000000 00:2a 77                         /srv/a model.gguf
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
nonsense
";

    #[test]
    fn lines_of_the_file_become_stretches() {
        let file = Identity {
            inode: 77,
            device: (0xfe, 0),
            path: "/srv/a model.gguf".into(),
        };
        let stretch = |start, end, offset| Stretch {
            addresses: start..end,
            offset,
        };
        assert_eq!(
            stretches(MAPS, &file),
            [
                stretch(0x7f00_0000_0000, 0x7f00_0002_0000, 0),
                stretch(0x7f00_0002_0000, 0x7f00_0003_0000, 0x3_0000),
                stretch(0x7f00_0005_0000, 0x7f00_0006_0000, 0),
            ]
        );
        let other = Identity { inode: 78, ..file };
        assert!(stretches(MAPS, &other).is_empty());
    }

    #[test]
    fn the_own_binary_is_mapped_by_this_process_which_is_left_out() {
        let path = fs::read_link("/proc/self/exe").expect("a link");
        let of = fs::metadata(&path).expect("a file");
        let file = Identity::new(&path, &of);
        let maps = fs::read_to_string("/proc/self/maps").expect("readable");
        assert!(!stretches(&maps, &file).is_empty());
        assert!(mappers(&file, Some(std::process::id())).is_empty());
        assert!(largest_file(std::process::id()).is_ok());
        let refused = largest_file(u32::MAX).expect_err("no such process");
        assert!(matches!(refused, FollowError::NoProcess { .. }));
    }
}
