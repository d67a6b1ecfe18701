//! Pressure on memory that comes and goes in the middle of a text.

use crate::trial::{DENSE, EXPERTS, Trial};
use std::time::Duration;

/// Room for many blocks to stay.
const MORE: u64 = 600_000;
/// Name of the file that tells the stalls, and time between two changes of it.
const FILE: &str = "pressure";
const TICK: Duration = Duration::from_millis(100);

#[test]
fn a_budget_that_shrinks_changes_no_id() {
    for model in [DENSE, EXPERTS] {
        let trial = Trial::new(model, false);
        let tell = |micros: u64| {
            let text = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={micros}\n");
            std::fs::write(trial.ground.file(FILE), text).expect("written");
        };
        tell(5);
        let mut run = trial.start_pressed(MORE, FILE);
        for tick in 1..=10 {
            run.go_on(TICK);
            tell(tick * 1_000_000);
        }
        let ended = trial.end_of(run, MORE);
        let pressure = &ended.report["pressure"];
        let number = |name: &str| pressure[name].as_f64().expect("a number");
        assert!(number("shrunk") >= 1.0, "{trial}: {pressure}");
        let fast = ended.report["fast_bytes"].as_f64().expect("a number");
        assert!(number("lowest_bytes") < fast, "{trial}: {pressure}");
        assert!(number("under_ms") > 0.0, "{trial}: {pressure}");
    }
}
