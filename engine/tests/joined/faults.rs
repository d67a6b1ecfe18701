//! Two nodes, a spill folder and the smallest budget, while one of the nodes fails in the middle.

use crate::ground::Ground;
use crate::namespaces::names;
use crate::trial::{FIRST, ROOMY, THIRD, each};
use std::time::Duration;
use tempfile::TempDir;

/// What a node sends again after it was away, in bytes: no heartbeat is that much.
const MUCH: u64 = 1 << 20;

#[test]
fn nodes_have_networks_of_their_own() {
    let folder = TempDir::new().expect("temp folder");
    match Ground::namespaces(folder.path(), 1) {
        None => println!("skipped: network namespaces need root; nodes are on loopback"),
        Some(Err(reason)) => println!("skipped: {reason}; nodes are on loopback"),
        Some(Ok(made)) => {
            let ours = made.names();
            let found = names();
            assert!(ours.iter().all(|name| found.contains(name)), "{found:?}");
            drop(made);
            let found = names();
            assert!(!ours.iter().any(|name| found.contains(name)), "{found:?}");
        }
    }
}

#[test]
fn nothing_fails() {
    each(|trial| {
        let _nodes = trial.nodes();
        let ended = trial.end(trial.start());
        // Weights and KV come from everywhere, and KV went to both nodes.
        for from in ["origin", "origin2", "nvme", "remote", "remote2"] {
            let bytes = ended.from(from);
            assert!(bytes > 0, "{trial} {from}: {}", ended.report);
        }
        assert_eq!(ended.recomputed(), 0, "{trial}: {}", ended.report);
    });
}

#[test]
fn a_node_is_killed() {
    each(|trial| {
        let (first, _second) = trial.nodes();
        let run = trial.start_to_middle();
        drop(first);
        let ended = trial.end(run);
        assert!(ended.recomputed() > 0, "{trial}: {}", ended.report);
        // The other one carried what was left.
        let (dead, other) = (ended.from("origin"), ended.from("origin2"));
        assert!(other > dead, "{trial}: {}", ended.report);
    });
}

#[test]
fn a_node_stops_for_five_seconds() {
    const STOP: Duration = Duration::from_secs(5);
    each(|trial| {
        let (first, _second) = trial.nodes();
        let mut run = trial.start_to_middle();
        first.stop();
        run.go_on(STOP);
        first.go_on();
        run.go_on_until(FIRST, MUCH);
        trial.end(run);
    });
}

#[test]
fn a_node_is_cut_off_and_healed() {
    const CUT: Duration = Duration::from_secs(3);
    each(|trial| {
        let _nodes = trial.nodes();
        let mut run = trial.start_to_middle();
        trial.ground.cut(FIRST);
        run.go_on(CUT);
        trial.ground.heal(FIRST);
        run.go_on_until(FIRST, MUCH);
        trial.end(run);
    });
}

#[test]
fn a_node_is_killed_and_comes_back() {
    each(|trial| {
        let (first, _second) = trial.nodes();
        let mut run = trial.start_to_middle();
        drop(first);
        // It is another one, without what it had, at the same address.
        let _first = trial.ground.start(FIRST, ROOMY);
        trial.load(FIRST);
        run.go_on_until(FIRST, MUCH);
        let ended = trial.end(run);
        assert!(ended.recomputed() > 0, "{trial}: {}", ended.report);
    });
}

#[test]
fn a_node_is_killed_and_another_one_joins() {
    each(|trial| {
        let (first, _second) = trial.nodes();
        let mut run = trial.start_to_middle();
        drop(first);
        let _third = trial.ground.start(THIRD, ROOMY);
        trial.load(THIRD);
        run.go_on_until(THIRD, MUCH);
        let ended = trial.end(run);
        assert!(ended.recomputed() > 0, "{trial}: {}", ended.report);
        assert!(ended.from("origin3") > 0, "{trial}: {}", ended.report);
    });
}
