//! Evictions by chance, from the smallest budget up to where nearly everything would stay.

use crate::trial::{DENSE, EXPERTS, Trial};

#[test]
fn evictions_by_chance_change_no_id() {
    for model in [DENSE, EXPERTS] {
        for is_device in [false, true] {
            let trial = Trial::new(model, is_device);
            for more in [0, 40_000, 150_000, 600_000] {
                let calm = trial.end_of(trial.start_alone(more, None), more);
                let shaken = trial.end_of(trial.start_alone(more, Some(7)), more);
                let at = format!("{trial} and {more}: {}", shaken.report);
                assert!(shaken.report["shaken"].as_u64() > Some(10), "{at}");
                // What left had to come again.
                let moved = |from| (calm.from(from), shaken.from(from));
                let (before, after) = moved("origin");
                assert!(before < after, "{at}");
                // Where KV can stay and can stream, slices of it left too.
                if more == 150_000 {
                    let (before, after) = moved("nvme");
                    assert!(before < after, "{at}");
                }
            }
        }
    }
}
