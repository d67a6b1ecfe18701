//! Taking away what a generous host gives, then becoming the program.
//!
//! Source: seccomp(2), mount_namespaces(7), user_namespaces(7).

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_thp_disable;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, getegid, geteuid, setgid, setgroups, setuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Memory that may be locked, in bytes; the default of many distributions.
const MEMLOCK: u64 = 8 << 20;
const SHM: &str = "size=1m,mode=1777";

#[derive(clap::Args)]
pub(crate) struct Confine {
    /// Folder that is read-only for the program.
    #[arg(long)]
    checkout: PathBuf,
    /// User and group that the program runs as; only root may say it.
    #[arg(long)]
    user: Option<u32>,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Does not return unless something fails.
pub(crate) fn confine(args: &Confine) -> Result<()> {
    let here = std::env::current_dir().context("find the current folder")?;
    match separate_mounts() {
        Ok(()) => arrange_mounts(&args.checkout)?,
        Err(error) => {
            eprintln!("skipped: {error:#}; the checkout stays writable and /dev/shm large");
        }
    }
    // The path again, through the mounts made above.
    std::env::set_current_dir(&here).context("enter the current folder")?;
    set_thp_disable(true).context("turn huge pages off")?;
    setrlimit(Resource::RLIMIT_MEMLOCK, MEMLOCK, MEMLOCK).context("limit locked memory")?;
    if let Some(user) = args.user {
        setgroups(&[]).context("leave all groups")?;
        setgid(Gid::from_raw(user)).context("change the group")?;
        setuid(Uid::from_raw(user)).context("change the user")?;
    }
    refuse(uring_calls(), nix::libc::EPERM).context("refuse io_uring")?;
    refuse(hugetlb_calls()?, nix::libc::ENOMEM).context("refuse huge pages")?;
    let (program, arguments) = args.command.split_first().context("no program")?;
    let error = Command::new(program).args(arguments).exec();
    bail!("start {program}: {error}")
}

/// Mounts of our own; without root, as root of a user namespace that has one user.
fn separate_mounts() -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace here")?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .context("no user namespace here")?;
        let write = |file: &str, text: String| {
            std::fs::write(Path::new("/proc/self").join(file), text)
                .with_context(|| format!("no user namespace here: write {file}"))
        };
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("{user} {user} 1"))?;
        write("gid_map", format!("{group} {group} 1"))?;
    }
    mount_at("/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
}

fn arrange_mounts(checkout: &Path) -> Result<()> {
    let none = MsFlags::empty();
    mount_at("/dev/shm", Some("tmpfs"), none, Some(SHM))?;
    if let Some(closed) = closed_folder(checkout) {
        reach_through(closed, checkout)?;
    } else {
        bind(checkout, checkout)?;
    }
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount_at(checkout, None, read_only, None)
}

/// The topmost folder on the way to `checkout` that strangers may not enter, such as `/root`.
fn closed_folder(checkout: &Path) -> Option<&Path> {
    let is_closed = |folder: &&Path| {
        let meta = folder.metadata();
        meta.is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0)
    };
    checkout.ancestors().skip(1).filter(is_closed).last()
}

/// Puts an open folder in the place of `closed`, with nothing in it but the way to `checkout`.
fn reach_through(closed: &Path, checkout: &Path) -> Result<()> {
    let keep = tempfile::tempdir().context("a folder to keep the checkout in")?;
    bind(checkout, keep.path())?;
    mount_at(closed, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    let mut folders = std::fs::DirBuilder::new();
    folders.recursive(true).mode(0o755);
    folders
        .create(checkout)
        .context("make the way to the checkout")?;
    bind(keep.path(), checkout)?;
    // The folder is another's mount point as long as this namespace lives.
    let _ = keep.keep();
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("bind {} to {}", from.display(), to.display()))
}

fn mount_at(
    place: impl AsRef<Path>,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<()> {
    let place = place.as_ref();
    mount(kind, place, kind, flags, data).with_context(|| format!("mount {}", place.display()))
}

type Calls = BTreeMap<i64, Vec<SeccompRule>>;

fn uring_calls() -> Calls {
    let calls = [
        nix::libc::SYS_io_uring_setup,
        nix::libc::SYS_io_uring_enter,
        nix::libc::SYS_io_uring_register,
    ];
    calls.map(|call| (call, Vec::new())).into()
}

/// Mappings of pages from the hugetlb pool.
fn hugetlb_calls() -> Result<Calls> {
    let flag = nix::libc::MAP_HUGETLB as u64;
    let condition = SeccompCondition::new(
        3,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(flag),
        flag,
    )?;
    let rule = SeccompRule::new(vec![condition])?;
    Ok(BTreeMap::from([(nix::libc::SYS_mmap, vec![rule])]))
}

/// From here on these calls fail with `errno`, in this thread and what it starts.
fn refuse(calls: Calls, errno: i32) -> Result<()> {
    let filter = SeccompFilter::new(
        calls,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter(&program)?)
}
