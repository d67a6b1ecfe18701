//! One error per operation. Each is a line that says what failed on what and what to do next.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// The probes could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "start probes: {missing} missing; run as root, or with these capabilities and pins in a \
         folder of your own"
    )]
    Privilege { missing: String },
    #[error(
        "start probes: the kernel is locked down ({mode}) and lets no program read its memory; \
         boot with lockdown=integrity or less"
    )]
    LockedDown { mode: String },
    #[error("pin under {path}: no bpf file system; run `mount -t bpf bpf /sys/fs/bpf`")]
    NoBpfFs { path: PathBuf },
    #[error("pin under {path}: it belongs to user {uid}, not to {own}; have its owner stop it")]
    ForeignPin { path: PathBuf, uid: u32, own: u32 },
    #[error(
        "use maps under {path}: they are of version {found}, not {expected}; run `larder heat stop`"
    )]
    OtherVersion {
        path: PathBuf,
        found: u32,
        expected: u32,
    },
    #[error("use maps under {path}: {map} is missing or broken; run `larder heat stop`")]
    BrokenPins { path: PathBuf, map: String },
    #[error("start probes under {path}: they run already; run `larder heat stop` first")]
    Running { path: PathBuf },
    #[error("count tasks below {path}: no cgroup of version 2; name a folder of that tree")]
    NoCgroup { path: PathBuf },
    #[error("{entries} entries per heat array: give 1 to {most}")]
    Entries { entries: u32, most: u32 },
    #[error("{what} {path}: {errno}")]
    Path {
        what: &'static str,
        path: PathBuf,
        errno: Errno,
    },
    #[error("load the maps: {reason}")]
    Load { reason: String },
    #[error("start probes: the kernel takes none of them: {reasons}")]
    Nothing { reasons: String },
}

/// The probes could not be stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("stop probes under {path}: nothing is pinned there")]
    NotStarted { path: PathBuf },
    #[error("remove {path}: {error}; run as the user who started the probes")]
    Remove { path: PathBuf, error: io::Error },
}

/// What is pinned could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("open {path}: nothing is pinned there; run `larder heat start`")]
    NotStarted { path: PathBuf },
    #[error("open {path}: not allowed; join the group that owns it, or run as root")]
    NotAllowed { path: PathBuf },
    #[error("read {path}: version {found}, not {expected}; run `larder heat stop` and start again")]
    OtherVersion {
        path: PathBuf,
        found: u32,
        expected: u32,
    },
    #[error("read {path}: it is no map of larder; run `larder heat stop` and start again")]
    Foreign { path: PathBuf },
    #[error("read {path}: {errno}")]
    Call { path: PathBuf, errno: Errno },
}

/// An engine got no heat array; it goes on with one of its own.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "claim a heat array: this process has a pid namespace of its own, where probes cannot tell \
         it from others; share the host's (`--pid=host`)"
    )]
    PidNamespace,
    #[error("claim a heat array for process {pid}: there is no such process")]
    NoProcess { pid: u32 },
    #[error("claim a heat array: all {arrays} have living owners; stop an engine")]
    Full { arrays: u32 },
    #[error(
        "claim a heat array: {wanted} blocks, but arrays have {entries} entries; run \
         `larder heat stop` and start with more"
    )]
    Small { wanted: u64, entries: u32 },
}

impl ReadError {
    /// An error of opening the pin at `path`.
    pub(crate) fn of_open(path: PathBuf, errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => Self::NotStarted { path },
            Errno::EACCES | Errno::EPERM => Self::NotAllowed { path },
            Errno::EINVAL => Self::Foreign { path },
            errno => Self::Call { path, errno },
        }
    }
}

/// An error as one line: the messages of all its causes.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
