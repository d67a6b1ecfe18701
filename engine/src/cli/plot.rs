//! The timeline of a run as SVG: what the tiers hold above, what the paths carry below.

use super::chart::{Area, COLOURS, Drawing, round_step};
use super::error::CliError;
use crate::timeline::Timeline;
use std::path::Path;

const WIDTH: f64 = 800.0;
const PANEL_HEIGHT: f64 = 180.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
/// Between the panels: the labels of one, the title and the legend of the next.
const BETWEEN: f64 = 80.0;
const TOP: f64 = 90.0;

/// Units with their names, the smallest first.
const BYTES: [(&str, f64); 4] = [
    ("bytes", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
];
const RATES: [(&str, f64); 4] = [
    ("bytes/s", 1.0),
    ("KB/s", 1e3),
    ("MB/s", 1e6),
    ("GB/s", 1e9),
];

/// A line with its name, through (seconds, amount).
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws the run of `title` into the file `path`; the first token came after `first` seconds.
pub(super) fn write(
    path: &Path,
    title: &str,
    timeline: &Timeline,
    first: f64,
) -> Result<(), CliError> {
    std::fs::write(path, svg(title, timeline, first)).map_err(|source| CliError::File {
        path: path.to_path_buf(),
        source,
    })
}

fn svg(title: &str, timeline: &Timeline, first: f64) -> String {
    let height = TOP + 2.0 * PANEL_HEIGHT + BETWEEN + 50.0;
    let mut drawing = Drawing::new(WIDTH, height);
    let style = " font-size=\"15\" font-weight=\"bold\"";
    drawing.words((LEFT, 28.0), style, title);
    let held = timeline
        .tiers
        .iter()
        .enumerate()
        .map(|(at, (name, bytes))| {
            let looks = timeline.looks.iter();
            Line {
                name: match bytes {
                    0 => name.clone(),
                    bytes => format!("{name} of {}", super::size::memory(*bytes)),
                },
                points: looks
                    .map(|look| (look.seconds, look.held[at] as f64))
                    .collect(),
            }
        });
    let moved = timeline.paths.iter().enumerate().map(|(at, name)| Line {
        name: name.clone(),
        points: timeline.rates(at).collect(),
    });
    // Paths that nothing came over say nothing.
    let moved = moved.filter(|line| line.points.iter().any(|(_, rate)| *rate > 0.0));
    let end = timeline.looks.last().map_or(0.0, |look| look.seconds);
    let mut panel = Panel {
        area: Area {
            left: LEFT,
            top: TOP,
            width: WIDTH - LEFT - RIGHT,
            height: PANEL_HEIGHT,
        },
        end: end.max(1e-3),
        first,
    };
    panel.draw(
        &mut drawing,
        "bytes in use",
        &held.collect::<Vec<_>>(),
        &BYTES,
    );
    panel.area.top += PANEL_HEIGHT + BETWEEN;
    panel.draw(
        &mut drawing,
        "bandwidth",
        &moved.collect::<Vec<_>>(),
        &RATES,
    );
    let below = (WIDTH / 2.0, panel.area.bottom() + 34.0);
    drawing.words(below, " text-anchor=\"middle\"", "seconds since the start");
    drawing.finish()
}

/// One of the two, over the same time.
struct Panel {
    area: Area,
    /// Of the run, and of its first token, in seconds.
    end: f64,
    first: f64,
}

impl Panel {
    fn draw(&self, drawing: &mut Drawing, what: &str, lines: &[Line], units: &[(&str, f64)]) {
        let amounts = lines.iter().flat_map(|line| &line.points);
        let most = amounts.map(|(_, amount)| *amount).fold(0.0, f64::max);
        let (unit, size) = units
            .iter()
            .rfind(|(_, size)| most >= *size)
            .copied()
            .unwrap_or(units[0]);
        let step = round_step(most / size);
        let levels = (most / size / step).ceil().max(1.0);
        let area = &self.area;
        let above = Area {
            top: area.top - 24.0,
            ..*area
        };
        drawing.title(&above, &format!("{what}, {unit}"));
        let colours = || COLOURS.iter().rev().cycle();
        let names = lines.iter().map(|line| line.name.as_str());
        let entries = names.zip(colours().copied());
        drawing.legend((area.left, area.top - 22.0), entries);
        for level in 0..=levels as usize {
            let label = decimal(level as f64 * step, step);
            drawing.level(area, level as f64 / levels, &label);
        }
        let every = round_step(self.end);
        for mark in 0..=(self.end / every) as usize {
            let seconds = mark as f64 * every;
            drawing.mark(area, seconds / self.end, &decimal(seconds, every));
        }
        drawing.upright(area, (self.first / self.end).min(1.0), "first token");
        for (line, colour) in lines.iter().zip(colours()) {
            let places = line.points.iter().map(|(seconds, amount)| {
                area.place(seconds / self.end, amount / size / step / levels)
            });
            drawing.line(places, colour);
        }
    }
}

/// A multiple of `step` with as many digits as it needs.
fn decimal(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Look;

    #[test]
    fn both_panels_have_axes_units_and_a_legend() {
        let look = |at: u64| Look {
            seconds: at as f64 / 10.0,
            held: vec![(at % 4) << 20, 0],
            moved: vec![at * 2_000_000, 0],
        };
        let timeline = Timeline {
            tiers: vec![("dram".to_owned(), 4 << 20), ("nvme".to_owned(), 0)],
            paths: vec!["origin>dram".to_owned(), "dram>nvme".to_owned()],
            looks: (0..30).map(look).collect(),
        };
        let text = svg("a <model>", &timeline, 0.5);
        for part in [
            "a &lt;model&gt;",
            "bytes in use, MiB",
            "bandwidth, MB/s",
            "dram of 4.0 MiB",
            ">nvme<",
            "origin&gt;dram",
            "seconds since the start",
            "first token",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("dram&gt;nvme"), "{text}");
        // Both tiers, and the one path that moved something.
        assert_eq!(text.matches("<polyline").count(), 3);
        assert!(!text.contains("NaN") && !text.contains("<script"), "{text}");
    }

    #[test]
    fn numbers_have_the_digits_that_they_need() {
        assert_eq!(decimal(0.6, 0.2), "0.6");
        assert_eq!(decimal(20.0, 5.0), "20");
        assert_eq!(decimal(1.5, 0.5), "1.5");
    }
}
