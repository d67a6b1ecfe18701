//! Two nodes, a spill folder and the smallest budget, while one of the nodes fails in the middle.

use crate::ground::Ground;
use crate::namespaces::names;
use crate::trial::{FIRST, ROOMY, SECOND, THIRD, each};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a node sends again after it was away, in bytes: no heartbeat is that much.
const MUCH: u64 = 1 << 20;
const STOP: Duration = Duration::from_secs(5);
/// A busy machine may be this late.
const SLACK: Duration = Duration::from_secs(1);

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
        for node in [FIRST, SECOND] {
            let [_, lost, joined] = ended.story(node);
            assert_eq!((lost, joined), (0, 0), "{trial}: {}", ended.report);
        }
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
        let [_, lost, joined] = ended.story(FIRST);
        assert_eq!((lost, joined), (1, 0), "{trial}: {}", ended.report);
        // The other one carried what was left.
        let (dead, other) = (ended.from("origin"), ended.from("origin2"));
        assert!(other > dead, "{trial}: {}", ended.report);
    });
}

/// What only the stopped node has is waited for.
#[test]
fn a_node_with_kv_stops_for_five_seconds() {
    each(|trial| {
        let (first, _second) = trial.nodes();
        let mut run = trial.start_to_middle();
        first.stop();
        run.go_on(STOP);
        first.go_on();
        run.go_on_until(FIRST, MUCH);
        trial.end(run).only_waited_for(FIRST);
    });
}

/// What another node has too is not.
#[test]
fn a_node_with_weights_stops_for_five_seconds() {
    // More than was asked for already; and the time until a node is suspect, and that for it.
    const GOES_ON: u64 = 4 << 20;
    let soon = Duration::from_millis(1000 + 500) + SLACK;
    each(|trial| {
        let (first, _second) = trial.nodes_of_weights();
        let mut run = trial.start_to_quarter();
        first.stop();
        let stopped = Instant::now();
        run.go_on_until(SECOND, GOES_ON);
        let took = stopped.elapsed();
        assert!(took < soon, "{trial}: {took:?}");
        run.go_on(STOP.saturating_sub(took));
        first.go_on();
        run.go_on_until(FIRST, MUCH);
        trial.end(run).only_waited_for(FIRST);
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
        trial.end(run).only_waited_for(FIRST);
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
        let [_, lost, joined] = ended.story(FIRST);
        assert_eq!((lost, joined), (1, 1), "{trial}: {}", ended.report);
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
        let [_, lost, joined] = ended.story(THIRD);
        assert_eq!((lost, joined), (0, 1), "{trial}: {}", ended.report);
        // Its share grows, beginning with little.
        let (new, other) = (ended.from("origin3"), ended.from("origin2"));
        assert!(0 < new && new < other, "{trial}: {}", ended.report);
    });
}
