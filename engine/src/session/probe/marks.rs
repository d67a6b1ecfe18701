//! The arithmetic of a probe: bytes per second out of when blocks came home.

use super::{PASS_BYTES, PASS_TIME, PASSES};
use std::time::Duration;

/// Bytes that had come home at some time of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) at: Duration,
    pub(super) bytes: u64,
}

impl Mark {
    fn per_second(self, to: Self) -> f64 {
        let seconds = to.at.saturating_sub(self.at).as_secs_f64();
        (to.bytes - self.bytes) as f64 / seconds.max(1e-9)
    }
}

/// What one path brought.
#[derive(Clone, Debug)]
pub(super) struct Brought {
    pub(super) marks: Vec<Mark>,
    /// Until then there was always more to bring.
    pub(super) full_until: Duration,
}

impl Brought {
    pub(super) fn bytes(&self) -> u64 {
        self.marks.last().map_or(0, |mark| mark.bytes)
    }
}

/// Bytes per second of the middle passes. The link runs full from when the first block is home to
/// the last one: what it took to start is left out.
pub(super) fn rate(marks: &[Mark]) -> f64 {
    let (Some(&first), Some(&last)) = (marks.first(), marks.last()) else {
        return 0.0;
    };
    let mut passes = Vec::new();
    let mut begin = first;
    for &mark in marks {
        if mark.bytes - begin.bytes >= PASS_BYTES || mark.at >= begin.at + PASS_TIME {
            passes.push(begin.per_second(mark));
            begin = mark;
        }
    }
    passes.sort_by(f64::total_cmp);
    match passes.len() {
        0 if last.at > first.at => first.per_second(last),
        0 => last.bytes as f64 / last.at.as_secs_f64(),
        count => f64::midpoint(passes[(count - 1) / 2], passes[count / 2]),
    }
}

/// Bytes per second of each path while all of them were full: the middle passes by what all brought
/// together. `None` if they were not for long enough to tell.
pub(super) fn rates_at_once(paths: &[Brought]) -> Option<Vec<f64>> {
    let firsts = paths
        .iter()
        .map(|path| path.marks.first().map(|mark| mark.at));
    let begin = firsts.collect::<Option<Vec<_>>>()?.into_iter().max()?;
    let end = paths.iter().map(|path| path.full_until).min()?;
    let long = end.checked_sub(begin)?;
    let within = |count: u32| {
        let edge = |number: u32| begin + long * number / count;
        let passes = (0..count).map(|pass| rates_between(paths, edge(pass), edge(pass + 1)));
        passes.collect::<Option<Vec<_>>>()
    };
    let mut passes = within(PASSES).or_else(|| within(1))?;
    let whole = |rates: &Vec<f64>| rates.iter().sum::<f64>();
    passes.sort_by(|one, other| whole(one).total_cmp(&whole(other)));
    let middle = [&passes[(passes.len() - 1) / 2], &passes[passes.len() / 2]];
    let both = middle[0].iter().zip(middle[1]);
    Some(
        both.map(|(&one, &other)| f64::midpoint(one, other))
            .collect(),
    )
}

/// Of each path from its first block behind `from` to its first behind `to`.
fn rates_between(paths: &[Brought], from: Duration, to: Duration) -> Option<Vec<f64>> {
    let rates = paths.iter().map(|path| {
        let behind = |edge: Duration| path.marks.iter().find(|mark| mark.at >= edge).copied();
        let (first, last) = (behind(from)?, behind(to)?);
        (first.at < last.at).then(|| first.per_second(last))
    });
    rates.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks after every 16 MiB, which took so many milliseconds each.
    fn marks(times: &[u64]) -> Vec<Mark> {
        let mut at = Duration::ZERO;
        let blocks = times.iter().enumerate().map(|(index, &ms)| {
            at += Duration::from_millis(ms);
            let bytes = (index as u64 + 1) << 24;
            Mark { at, bytes }
        });
        blocks.collect()
    }

    fn is_near(found: f64, mib_per_ms: f64) -> bool {
        let wanted = mib_per_ms * f64::from(1 << 20) * 1e3;
        (found / wanted - 1.0).abs() < 1e-9
    }

    #[test]
    fn the_start_and_a_hiccup_do_not_count() {
        let mut times = vec![90];
        times.extend([4; 16]);
        assert!(is_near(rate(&marks(&times)), 4.0));
        times[6] = 300;
        assert!(is_near(rate(&marks(&times)), 4.0));
    }

    #[test]
    fn a_link_that_changes_is_taken_in_the_middle() {
        let times: Vec<u64> = [[1; 4], [2; 4], [4; 4], [8; 4]].concat();
        let times = [&[1], times.as_slice()].concat();
        assert!(is_near(rate(&marks(&times)), 6.0));
    }

    #[test]
    fn few_blocks_are_a_figure_too() {
        assert!(is_near(rate(&marks(&[8, 4])), 4.0));
        assert!(is_near(rate(&marks(&[8])), 2.0));
        assert!(is_near(rate(&marks(&[400, 200, 800, 400])), 0.04));
        assert_eq!(rate(&[]), 0.0);
        // Both were home when somebody looked.
        let together = [1, 2].map(|bytes| Mark {
            at: Duration::from_secs(1),
            bytes,
        });
        assert!((rate(&together) - 2.0).abs() < 1e-9);
    }

    /// A path that is full for `full_ms`, and then brings what is still on its way.
    fn brought(times: &[u64], full_ms: u64) -> Brought {
        Brought {
            marks: marks(times),
            full_until: Duration::from_millis(full_ms),
        }
    }

    #[test]
    fn only_the_time_in_which_all_are_full_counts() {
        // The first begins alone at 16 MiB/ms, and ends alone at 8.
        let first = [vec![1; 10], vec![4; 40], vec![2; 20]].concat();
        let second = [vec![10], vec![8; 20]].concat();
        let rates = rates_at_once(&[brought(&first, 210), brought(&second, 170)]);
        let rates = rates.expect("160 ms together");
        assert!(
            is_near(rates[0], 4.0) && is_near(rates[1], 2.0),
            "{rates:?}"
        );
    }

    #[test]
    fn a_hiccup_of_one_path_is_no_figure_of_both() {
        let first = vec![4; 100];
        let mut second = vec![8; 50];
        second[20] = 60;
        let rates = rates_at_once(&[brought(&first, 400), brought(&second, 400)]);
        let rates = rates.expect("400 ms together");
        assert!(
            is_near(rates[0], 4.0) && is_near(rates[1], 2.0),
            "{rates:?}"
        );
    }

    #[test]
    fn a_slow_path_is_taken_in_one_pass_and_one_that_was_never_there_in_none() {
        let fast = brought(&[4; 100], 400);
        let slow = brought(&[120, 150, 140], 400);
        let rates = rates_at_once(&[fast.clone(), slow]).expect("a block and another");
        assert!(is_near(rates[0], 4.0), "{rates:?}");
        assert!(is_near(rates[1], 32.0 / 290.0), "{rates:?}");
        for nothing in [brought(&[], 400), brought(&[120], 400), brought(&[4; 9], 0)] {
            assert!(rates_at_once(&[fast.clone(), nothing]).is_none());
        }
    }
}
