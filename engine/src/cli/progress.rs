//! Progress of long work: a bar on a terminal, now and then a line elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Nothing is shown before this time has passed, and plain lines are this far apart.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Progress of `total` things.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    is_plain: bool,
    what: &'static str,
    unit: &'static str,
    total: u64,
    done: u64,
    said: Instant,
}

impl Progress {
    /// Shows nothing where standard output shows the work itself.
    pub(super) fn new(
        (what, unit): (&'static str, &'static str),
        total: u64,
        is_shown_elsewhere: bool,
    ) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = (is_terminal && !is_shown_elsewhere).then(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
                .with_style(style)
                .with_message(what)
        });
        Self {
            bar,
            // Lines between those of the work, wherever both are shown, would tear it apart.
            is_plain: !is_terminal && !is_shown_elsewhere,
            what,
            unit,
            total,
            done: 0,
            said: Instant::now(),
        }
    }

    /// One more token is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        } else if self.is_plain && self.said.elapsed() > PLAIN_EVERY {
            self.said = Instant::now();
            let Self {
                what,
                unit,
                done,
                total,
                ..
            } = self;
            let _ = writeln!(std::io::stderr(), "{what}: {done} of {total} {unit}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
