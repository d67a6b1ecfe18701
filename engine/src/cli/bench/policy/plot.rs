//! Shares of misses as SVG: a panel per trace, a group of bars per size of the cache.

use super::{POLICIES, PolicyReport, TraceReport};
use std::fmt::Write as _;

const PANEL_WIDTH: usize = 360;
const PANEL_HEIGHT: usize = 200;
const MARGIN: usize = 40;
const COLUMNS: usize = 2;
/// Height of the line with the names of the policies.
const LEGEND: usize = 30;
/// One per policy, told apart by the colour-blind. Source: Okabe and Ito, 2008.
const COLOURS: [&str; 6] = [
    "#999999", "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#000000",
];

pub(super) fn svg(report: &PolicyReport) -> String {
    let rows = report.traces.len().div_ceil(COLUMNS);
    let width = COLUMNS * (PANEL_WIDTH + MARGIN) + MARGIN;
    let height = rows * (PANEL_HEIGHT + 2 * MARGIN) + LEGEND;
    // Writing to a string does not fail, here and below.
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (at, (name, colour)) in POLICIES.iter().zip(COLOURS).enumerate() {
        let x = MARGIN + at * 90;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"21\">{name}</text>",
            x + 17
        );
    }
    for (at, trace) in report.traces.iter().enumerate() {
        let left = MARGIN + at % COLUMNS * (PANEL_WIDTH + MARGIN);
        let top = LEGEND + MARGIN + at / COLUMNS * (PANEL_HEIGHT + 2 * MARGIN);
        panel(&mut text, trace, left, top);
    }
    text.push_str("</svg>\n");
    text
}

fn panel(text: &mut String, trace: &TraceReport, left: usize, top: usize) {
    let bottom = top + PANEL_HEIGHT;
    let title = escaped(&trace.trace);
    let _ = writeln!(
        text,
        "<text x=\"{left}\" y=\"{}\">{title}: share of uses that miss</text>",
        top - 8
    );
    for quarter in 0..=4 {
        let y = bottom - quarter * PANEL_HEIGHT / 4;
        let _ = writeln!(
            text,
            "<line x1=\"{left}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"10\">{}%</text>",
            left + PANEL_WIDTH,
            left - 3,
            y + 3,
            quarter * 25
        );
    }
    let group = PANEL_WIDTH / trace.sizes.len().max(1);
    let bar = (group / (POLICIES.len() + 2)).max(2);
    for (at, size) in trace.sizes.iter().enumerate() {
        let start = left + at * group + bar;
        for (policy, (misses, colour)) in size.misses.iter().zip(COLOURS).enumerate() {
            let share = *misses as f64 / trace.uses.max(1) as f64;
            let tall = share * PANEL_HEIGHT as f64;
            let x = start + policy * bar;
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"{:.1}\" width=\"{}\" height=\"{tall:.1}\" fill=\"{colour}\">\
                 <title>{} {:.2}%</title></rect>",
                bottom as f64 - tall,
                bar - 1,
                POLICIES[policy],
                share * 100.0
            );
        }
        let _ = writeln!(
            text,
            "<text x=\"{start}\" y=\"{}\" font-size=\"10\">{:.1}% ({} slots)</text>",
            bottom + 14,
            size.share * 100.0,
            size.slots
        );
    }
}

/// Names of files may hold anything.
fn escaped(name: &str) -> String {
    let name = name.replace('&', "&amp;");
    name.replace('<', "&lt;").replace('>', "&gt;")
}
