//! Probes of the paths into the fast tier: each by itself, and all of them at once.

use crate::support::{assets, generate, open, options};
use larder::manifest::Container;
use larder::pack::pack;
use larder::session::{LowerTier, Sample, Session, SessionOptions};
use larder_pool::units::BytesPerSec;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A tier that takes longer to answer does not answer.
const LONG: Duration = Duration::from_secs(10);

/// The model of stories, packed, so that its weights may have a home.
fn packed(folder: &Path) -> PathBuf {
    let container = Container::open(&assets().join("larder-story.gguf")).expect("opens");
    let into = folder.join("packed");
    pack(&container, &into, |_| ()).expect("packs");
    into
}

fn spilling(folder: &Path, limit: Option<f64>) -> SessionOptions {
    SessionOptions {
        fast_bytes: Some(900 << 10),
        lower: vec![LowerTier::Nvme {
            folder: folder.join("spill"),
            bytes: 64 << 20,
            limit: limit.and_then(BytesPerSec::new),
        }],
        ..options()
    }
}

/// Bytes that `session` holds at home.
fn homed(session: &Session) -> u64 {
    session.homes()[0].space.used_bytes()
}

#[test]
fn an_origin_and_a_home_are_probed_at_once_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("temp folder");
    let model = packed(folder.path());
    let prompt: Vec<u32> = (100..140).collect();
    let free = generate(&mut open(&model, &options()), &prompt, 30);
    let mut session = open(&model, &spilling(folder.path(), None));
    for sample in [Sample::Before, Sample::Behind] {
        let before = homed(&session);
        let carried = session.probe_paths(sample).expect("probes");
        assert_eq!((carried.alone.len(), carried.at_once.len()), (2, 2));
        for rates in [&carried.alone, &carried.at_once] {
            let all = rates.iter().all(|rate| rate.is_some_and(|rate| rate > 0.0));
            assert!(all, "{carried:?}");
        }
        assert_eq!(carried.first.is_some(), sample == Sample::Before);
        assert!(carried.load.is_none_or(|load| (0.0..=1.0).contains(&load)));
        // Its room comes back when the tier has answered.
        let start = Instant::now();
        while homed(&session) > before && start.elapsed() < LONG {
            std::thread::yield_now();
        }
        assert_eq!(homed(&session), before, "what was brought home has left");
        session.check_tiers(&carried).expect("two tiers");
        // What was probed is what the mover moved, and no weight was changed by it.
        let probed = session.probed().to_vec();
        let moved = session.path_use();
        let all = probed.iter().zip(&moved);
        assert!(all.into_iter().all(|(probed, path)| *probed <= path.bytes));
        assert!(generate(&mut session, &prompt, 30) == free);
        assert!(homed(&session) > 0, "weights went home");
    }
}

#[test]
fn a_home_with_a_limit_is_not_probed() {
    let folder = tempfile::tempdir().expect("temp folder");
    let model = packed(folder.path());
    let mut session = open(&model, &spilling(folder.path(), Some(5e6)));
    let carried = session.probe_paths(Sample::Before).expect("probes");
    assert_eq!(carried.alone[1], None);
    assert!(carried.at_once.is_empty() && carried.of(0) == carried.alone[0]);
    assert_eq!(homed(&session), 0);
}
