//! A session reads the latency of the disk that its model is on from the pinned maps. Needs root;
//! without it, or on a host whose kernel lets nobody count, the test says so and is skipped.
//!
//! The bpf file system is one of its own, in a mount namespace of its own thread.
#![forbid(unsafe_code)]

use larder::host::{Disk, HostTree};
use larder::manifest::Manifest;
use larder::meter::DiskOptions;
use larder::sample::argmax;
use larder::session::{GenerateOptions, Session, SessionOptions};
use larder_cpu::Isa;
use larder_ebpf::{DiskLatency, Options, Pins, StartError, monotonic_ns, start};
use larder_pool::path::{DiskState, Sizing};
use larder_pool::units::PathId;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Device whose number is nobody's.
const NOBODY: (u32, u32) = (0xffe, 0x77);
/// Texts that are made until the path has looked at its disk.
const TEXTS_MAX: usize = 200;

/// Probes, pinned in a place that goes with this thread; or why there are none.
fn probes(folder: &Path) -> Result<Pins, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("probes need root".to_owned());
    }
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("mount namespace: {errno}"))?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| format!("private mounts: {errno}"))?;
    mount(Some("bpf"), folder, Some("bpf"), MsFlags::empty(), none)
        .map_err(|errno| format!("bpf file system: {errno}"))?;
    let pins = Pins::new(folder.join("larder"));
    let options = Options {
        pins: pins.clone(),
        entries: 256,
        ..Options::at(monotonic_ns())
    };
    match start(&options) {
        Ok(report) if report.attached.iter().any(|one| one.probe == "larder_io") => Ok(pins),
        Ok(report) => Err(format!("{:?}", report.skipped)),
        Err(error @ (StartError::Privilege { .. } | StartError::LockedDown { .. })) => {
            Err(error.to_string())
        }
        Err(error) => panic!("{error}"),
    }
}

/// A model on a disk, which is read past the page cache, and that disk.
fn model_on_disk() -> Result<(PathBuf, Disk), String> {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let path = assets.join("larder-story.gguf");
    let tree = HostTree::this();
    let disk = Disk::of(&tree, &Disk::all(&tree), &path).cloned();
    let disk = disk.ok_or_else(|| format!("{} is on no disk of its own", path.display()))?;
    Ok((path, disk))
}

/// A session of that model in as little memory as it takes, so that each token reads the disk.
fn session(path: &Path, pins: &Pins) -> Session {
    let manifest = Arc::new(Manifest::open(path).expect("the model opens"));
    let mut options = SessionOptions {
        context: Some(256),
        disks: DiskOptions {
            sizing: Sizing::Latency,
            pins: Some(pins.clone()),
        },
        ..SessionOptions::plain(Isa::detect(), 1)
    };
    let large = Session::open(Arc::clone(&manifest), &options).expect("it opens");
    options.fast_bytes = Some(large.layout().needs().min_fast_bytes());
    drop(large);
    Session::open(manifest, &options).expect("the smallest budget is enough")
}

fn reads_the_latency_of_its_own_disk(pins: &Pins) -> Result<(), String> {
    let (path, disk) = model_on_disk()?;
    let device = std::fs::metadata(&path).expect("the model").dev();
    let (major, minor) = disk.device().expect("a disk has a number");
    let own = nix::sys::stat::major(device);
    assert_eq!(
        u64::from(major),
        own,
        "the disk of the file, or of its partition"
    );
    let latency = |(major, minor)| {
        let latency = DiskLatency::open(pins, major, minor).expect("pinned");
        latency.read().expect("readable")
    };
    let before = latency((major, minor));
    let mut session = session(&path, pins);
    let notes = session.mover().paths()[0].notes.clone();
    let said = format!("windows by the latency of {} in io_latency", disk.name);
    assert!(notes.contains(&said), "{notes:?}");
    let counters = |session: &Session| session.mover().counters(PathId::new(0)).health.state();
    let prompt: Vec<u32> = (1..40).collect();
    for _ in 0..TEXTS_MAX {
        if counters(&session).is_some() {
            break;
        }
        let ask = GenerateOptions {
            prompt: &prompt,
            count: 24,
            stop: &[],
        };
        let made = session.generate(&ask, |row| Ok(argmax(row)), |_| true);
        assert_eq!(made.expect("it generates").tokens.len(), 24);
    }
    let state = counters(&session);
    assert!(
        state.is_some_and(|state| state != DiskState::Unseen),
        "{state:?}"
    );
    let path = session.mover().counters(PathId::new(0));
    let device_ns = path.device_ns.load(Ordering::Relaxed);
    let after = latency((major, minor));
    assert!(
        after.ios > before.ios && after.nanos > before.nanos,
        "{after:?}"
    );
    assert!(device_ns > 0, "the path saw requests of {}", disk.name);
    assert_eq!(latency(NOBODY).ios, 0, "other devices have their own");
    Ok(())
}

#[test]
fn a_path_sees_the_requests_of_the_disk_that_its_file_is_on() {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let done =
                probes(folder.path()).and_then(|pins| reads_the_latency_of_its_own_disk(&pins));
            if let Err(reason) = done {
                println!("skipped: {reason}");
            }
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
