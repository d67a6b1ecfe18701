//! Two nodes, a spill folder and the smallest budget, while one of the nodes fails in the middle.

use crate::trial::{FIRST, SECOND, each};
use std::time::Duration;

#[test]
fn nothing_fails() {
    each(|trial| {
        let _nodes = trial.nodes();
        let ended = trial.end(trial.start());
        let fast = trial.fast_name();
        // Weights and KV come from everywhere, and KV went to both nodes.
        for from in ["origin", "origin2", "nvme", "remote", "remote2"] {
            let path = format!("{from}>{fast}");
            assert!(ended.moved(&path) > 0, "{trial} {path}: {}", ended.report);
        }
        assert_eq!(ended.recomputed(), 0, "{trial}: {}", ended.report);
        println!("{trial}: {:.1} s", ended.time.as_secs_f64());
    });
}

#[test]
fn a_node_is_killed() {
    each(|trial| {
        let (first, _second) = trial.nodes();
        let mut run = trial.start_to_middle();
        drop(first);
        let second = run.received(SECOND);
        let ended = trial.end(run);
        assert!(ended.recomputed() > 0, "{trial}: {}", ended.report);
        println!(
            "{trial}: {:.1} s {} {}",
            ended.time.as_secs_f64(),
            second,
            ended.report
        );
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
        let ended = trial.end(run);
        println!(
            "{trial}: {:.1} s {}",
            ended.time.as_secs_f64(),
            ended.report
        );
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
        let ended = trial.end(run);
        println!(
            "{trial}: {:.1} s {}",
            ended.time.as_secs_f64(),
            ended.report
        );
    });
}

#[test]
fn a_node_is_killed_and_comes_back() {
    each(|trial| {
        let (first, _second) = trial.nodes();
        let mut run = trial.start_to_middle();
        drop(first);
        let _first = trial.ground.start(FIRST, "48MiB");
        trial.load(FIRST);
        let ended = trial.end(run);
        println!(
            "{trial}: {:.1} s {}",
            ended.time.as_secs_f64(),
            ended.report
        );
    });
}
