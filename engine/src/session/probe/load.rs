//! How busy the processors of the host are while paths are read: by this process, by a memory node
//! on the same host, by the kernel for both.

use std::time::{Duration, Instant};

/// Source: `sysconf(_SC_CLK_TCK)`, which is the same for programs on every Linux.
const TICK_MS: u64 = 10;

/// Time of all processors together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    all: Duration,
    idle: Duration,
}

impl Load {
    /// Does `work`, and adds what passed meanwhile.
    pub(super) fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let look = || parsed(&std::fs::read_to_string("/proc/stat").ok()?);
        let (before, start) = (look(), Instant::now());
        let done = work();
        let long = start.elapsed();
        if let Some(((idle, _), (idle_then, count))) = before.zip(look()) {
            self.all += long * count;
            self.idle += idle_then.saturating_sub(idle);
        }
        done
    }

    /// Share of all processors that was busy, from 0 to 1.
    pub(super) fn share(&self) -> Option<f64> {
        let whole = self.all.as_secs_f64();
        (whole > 0.0).then(|| (1.0 - self.idle.as_secs_f64() / whole).clamp(0.0, 1.0))
    }
}

/// Time that all processors were idle since the host was started, and their number.
/// Source: proc_stat(5); of the first line, the fourth and the fifth figure.
fn parsed(stat: &str) -> Option<(Duration, u32)> {
    let mut figures = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let ticks = |figure: Option<&str>| figure?.parse::<u64>().ok();
    let (idle, waiting) = (ticks(figures.nth(3)), ticks(figures.next()));
    let is_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    let count = stat.lines().filter(is_one).count() as u32;
    let ticks = idle?.saturating_add(waiting.unwrap_or(0));
    Some((Duration::from_millis(ticks.saturating_mul(TICK_MS)), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_what_waits_too_and_nonsense_is_nothing() {
        let text =
            "cpu  50 1 20 700 30 0 9 0 0 0\ncpu0 25 1 10 350 15 0 9\ncpu1 25 0 1 350 15\nintr 1";
        assert_eq!(parsed(text), Some((Duration::from_millis(7300), 2)));
        for text in [
            "",
            "cpu",
            "cpu  1 2 3",
            "cpu  1 2 3 x 5",
            "intr 7",
            "cpu0 1 2 3 4",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_thread_that_works_is_a_load() {
        let mut load = Load::default();
        assert_eq!(load.share(), None);
        load.during(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {}
        });
        let share = load.share();
        // One processor of so many, less what a tick hides.
        let stat = std::fs::read_to_string("/proc/stat").expect("a Linux");
        let (_, count) = parsed(&stat).expect("processors");
        let least = 0.7 / f64::from(count);
        assert!(
            share.is_some_and(|share| share >= least && share <= 1.0),
            "{share:?}"
        );
    }
}
