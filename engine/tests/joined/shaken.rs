//! Evictions by chance, from the smallest budget up to where nearly everything would stay.

use crate::trial::each;

#[test]
fn evictions_by_chance_change_no_id() {
    each(|trial| {
        for more in [0, 40_000, 150_000, 600_000] {
            let calm = trial.end_of(trial.start_alone(more, None), more);
            let shaken = trial.end_of(trial.start_alone(more, Some(7)), more);
            let at = format!("{trial} and {more}: {}", shaken.report);
            assert!(shaken.report["shaken"].as_u64() > Some(10), "{at}");
            // What left had to come again.
            assert!(calm.from("origin") < shaken.from("origin"), "{at}");
            // Where KV can stay and can stream, slices of it left too.
            let slices = (calm.from("nvme"), shaken.from("nvme"));
            assert!(more != 150_000 || slices.0 < slices.1, "{at}");
        }
    });
}
