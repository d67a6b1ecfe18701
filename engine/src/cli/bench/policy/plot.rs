//! Shares of misses as SVG: a panel per trace, a group of bars per size of the cache.

use super::{POLICIES, PolicyReport, TraceReport};
use crate::cli::chart::{Area, COLOURS, Drawing};

const PANEL_WIDTH: f64 = 360.0;
const PANEL_HEIGHT: f64 = 200.0;
const MARGIN: f64 = 40.0;
const COLUMNS: usize = 2;
/// Height of the line with the names of the policies.
const LEGEND: f64 = 30.0;

pub(super) fn svg(report: &PolicyReport) -> String {
    let rows = report.traces.len().div_ceil(COLUMNS) as f64;
    let width = COLUMNS as f64 * (PANEL_WIDTH + MARGIN) + MARGIN;
    let height = rows * (PANEL_HEIGHT + 2.0 * MARGIN) + LEGEND;
    let mut drawing = Drawing::new(width, height);
    drawing.legend((MARGIN, 10.0), POLICIES.into_iter().zip(COLOURS));
    for (at, trace) in report.traces.iter().enumerate() {
        let (column, row) = ((at % COLUMNS) as f64, (at / COLUMNS) as f64);
        let area = Area {
            left: MARGIN + column * (PANEL_WIDTH + MARGIN),
            top: LEGEND + MARGIN + row * (PANEL_HEIGHT + 2.0 * MARGIN),
            width: PANEL_WIDTH,
            height: PANEL_HEIGHT,
        };
        panel(&mut drawing, trace, &area);
    }
    drawing.finish()
}

fn panel(drawing: &mut Drawing, trace: &TraceReport, area: &Area) {
    let title = format!("{}: share of uses that miss", trace.trace);
    drawing.title(area, &title);
    for quarter in 0..=4 {
        let label = format!("{}%", quarter * 25);
        drawing.level(area, f64::from(quarter) / 4.0, &label);
    }
    let group = PANEL_WIDTH / trace.sizes.len().max(1) as f64;
    let bar = (group / (POLICIES.len() + 2) as f64).max(2.0);
    for (at, size) in trace.sizes.iter().enumerate() {
        let start = area.left + at as f64 * group + bar;
        for (policy, (misses, colour)) in size.misses.iter().zip(COLOURS).enumerate() {
            let share = *misses as f64 / trace.uses.max(1) as f64;
            let (_, top) = area.place(0.0, share);
            let place = (start + policy as f64 * bar, top);
            let says = format!("{} {:.2}%", POLICIES[policy], share * 100.0);
            drawing.bar(place, (bar - 1.0, area.bottom() - top), colour, &says);
        }
        let label = format!("{:.1}% ({} slots)", size.share * 100.0, size.slots);
        drawing.words((start, area.bottom() + 14.0), " font-size=\"10\"", &label);
    }
}
