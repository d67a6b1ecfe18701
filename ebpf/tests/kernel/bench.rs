//! Where a test works: private mounts, started probes, other processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use larder_ebpf::{Options, Pins, Report, start};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

/// A user that owns nothing, and a group that nobody is in.
pub(crate) const NOBODY: u32 = 65_534;
pub(crate) const GROUP: u32 = 54_321;

/// The private place of a test.
pub(crate) struct Bench {
    pub(crate) pins: Pins,
    folder: tempfile::TempDir,
}

impl Bench {
    /// Runs `test` with a bpf file system of its own, or says why it cannot.
    pub(crate) fn run(test: impl FnOnce(&Self) + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| match Self::new() {
                Ok(bench) => test(&bench),
                Err(reason) => println!("skipped: {reason}"),
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    fn new() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("probes need root".to_owned());
        }
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("mount namespace: {errno}"))?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|errno| format!("private mounts: {errno}"))?;
        let folder = tempfile::tempdir().map_err(|error| format!("folder: {error}"))?;
        let place = folder.path().join("bpf");
        std::fs::create_dir(&place).map_err(|error| format!("folder: {error}"))?;
        mount(Some("bpf"), &place, Some("bpf"), MsFlags::empty(), none)
            .map_err(|errno| format!("bpf file system: {errno}"))?;
        // Others must be able to reach the pins.
        open_to_all(folder.path());
        open_to_all(&place);
        Ok(Self {
            pins: Pins::new(place.join("larder")),
            folder,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn options(&self) -> Options {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock of every kernel");
        let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
        Options {
            pins: self.pins.clone(),
            entries: 256,
            group: Some(GROUP),
            ..Options::at(now_ns)
        }
    }

    /// Starts the probes as most tests want them.
    pub(crate) fn start(&self) -> Option<Report> {
        start_with(&self.options())
    }

    /// Puts the binary where every user finds it and tells it where to work; the arguments that
    /// make it run the test `name` of `workers`.
    pub(crate) fn prepare_worker(&self, name: &str, pins: &Pins) -> (PathBuf, [String; 4]) {
        let program = self.folder.path().join("worker");
        std::fs::copy("/proc/self/exe", &program).expect("a copy of this binary");
        open_to_all(&program);
        let place = self.folder.path().join(crate::workers::PLACE);
        std::fs::write(&place, pins.root().to_string_lossy().as_bytes()).expect("written");
        let test = format!("workers::{name}");
        let arguments = ["--exact", &test, "--nocapture", "--test-threads=1"];
        (program, arguments.map(str::to_owned))
    }

    /// Runs a test of `workers` in a process of its own, under `user` and `group`.
    pub(crate) fn worker_passes(&self, name: &str, user: u32, group: u32) {
        use std::os::unix::process::CommandExt;
        let (program, arguments) = self.prepare_worker(name, &self.pins);
        let mut command = Command::new(program);
        command.args(arguments).uid(user).gid(group);
        self.passes(&mut command).expect("the own binary runs");
    }

    /// Runs `command`, which must succeed; an error if it is not there.
    pub(crate) fn passes(&self, command: &mut Command) -> std::io::Result<()> {
        let output = command.current_dir(self.folder.path()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        Ok(())
    }
}

/// Mounts the tracing file system where it belongs, for this test only.
pub(crate) fn mount_tracefs() -> Result<(), String> {
    let none: Option<&str> = None;
    let place = "/sys/kernel/tracing";
    mount(
        Some("tracefs"),
        place,
        Some("tracefs"),
        MsFlags::empty(),
        none,
    )
    .map_err(|errno| format!("tracing file system: {errno}"))
}

/// Starts the probes; `None`, said aloud, where this kernel lets nobody do so.
pub(crate) fn start_with(options: &Options) -> Option<Report> {
    match start(options) {
        Ok(report) => Some(report),
        Err(
            error @ (larder_ebpf::StartError::Privilege { .. }
            | larder_ebpf::StartError::LockedDown { .. }),
        ) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("the own folder");
}

/// Whether `report` says that `probe` runs.
pub(crate) fn is_attached(report: &Report, probe: &str) -> bool {
    report
        .attached
        .iter()
        .any(|attached| attached.probe == probe)
}

/// A folder on a real disk.
pub(crate) fn disk_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}
