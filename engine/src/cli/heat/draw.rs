//! The heat map in the terminal: blocks in the order of their ids, folded to its width.

use super::map::{ArrayHeat, HeatReport, LEVELS, least, level};
use std::fmt::Write as _;

/// Letters of the levels, where only plain text is read and on a terminal.
const PLAIN: [char; LEVELS as usize + 1] = [' ', '.', ':', '-', '=', '+', '*', '#', '@'];
const BARS: [char; LEVELS as usize + 1] = [
    ' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}',
    '\u{2588}',
];
/// Rows of one array; from there on a cell stands for several blocks, and shows the hottest.
const ROWS_MAX: usize = 32;
/// Room for the number of a row's first block.
const LABEL: usize = 8;

/// Columns of the terminal on standard output.
pub(super) fn columns() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(100, |(width, _)| width.0.into())
}

pub(super) fn text(report: &HeatReport, columns: usize, is_terminal: bool) -> String {
    if report.arrays.is_empty() {
        return "no engine has claimed a heat array yet; larder run claims one".to_owned();
    }
    let letters = if is_terminal { BARS } else { PLAIN };
    let arrays = report.arrays.iter();
    let pictures: Vec<String> = arrays
        .map(|array| picture(array, columns, letters))
        .collect();
    pictures.join("\n")
}

fn picture(array: &ArrayHeat, columns: usize, letters: [char; LEVELS as usize + 1]) -> String {
    let mut text = array.title();
    text.push('\n');
    let hottest = array.hottest();
    let width = columns.saturating_sub(LABEL + 2).clamp(8, 128);
    let per_cell = array.blocks.len().div_ceil(width * ROWS_MAX).max(1);
    let cells: Vec<u64> = array
        .blocks
        .chunks(per_cell)
        .map(|blocks| blocks.iter().map(|block| block.heat).max().unwrap_or(0))
        .collect();
    for (row, cells) in cells.chunks(width).enumerate() {
        let first = array.block_first + (row * width * per_cell) as u64;
        let line: String = cells
            .iter()
            .map(|&heat| letters[level(heat, hottest) as usize])
            .collect();
        let _ = writeln!(text, "{first:>LABEL$} |{line}|");
    }
    text.push_str(&legend(hottest, letters));
    if per_cell > 1 {
        let _ = writeln!(text, "a cell is {per_cell} blocks and shows the hottest");
    }
    text
}

/// What each letter means, from which heat on.
fn legend(hottest: u64, letters: [char; LEVELS as usize + 1]) -> String {
    let mut text = format!("{:>LABEL$} '{}' 0", "legend", letters[0]);
    let mut before = 0;
    for wanted in 1..=LEVELS {
        let from = least(wanted, hottest);
        if from > before && level(from, hottest) == wanted {
            let _ = write!(text, "  '{}' {from}", letters[wanted as usize]);
            before = from;
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::super::map::manifest_name;
    use super::*;
    use crate::cli::options::HeatCount;
    use larder_ebpf::{HeatEntry, Region};

    fn array(heat: &[u64]) -> ArrayHeat {
        let entries: Vec<HeatEntry> = heat
            .iter()
            .map(|&touches| HeatEntry {
                touches,
                ..HeatEntry::default()
            })
            .collect();
        ArrayHeat::new(3, &Region::default(), &entries, HeatCount::All)
    }

    #[test]
    fn blocks_are_folded_in_order() {
        let blocks: Vec<u64> = (0..20).map(|block| block * 10).collect();
        let drawn = picture(&array(&blocks), 18, PLAIN);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(
            lines[0].contains("19 of 20 blocks used, hottest 190"),
            "{drawn}"
        );
        assert!(lines[1].starts_with("       0 | "), "{drawn}");
        assert!(lines[2].starts_with("       8 |"), "{drawn}");
        assert!(lines[3].ends_with("@|"), "{drawn}");
        assert!(
            lines[4].contains("' ' 0") && lines[4].contains("'@'"),
            "{drawn}"
        );
    }

    #[test]
    fn many_blocks_share_a_cell_and_the_hottest_shows() {
        let mut blocks = vec![0; 8 * ROWS_MAX * 3];
        blocks[4] = 9;
        let drawn = picture(&array(&blocks), 10, PLAIN);
        assert!(drawn.contains("a cell is 3 blocks"), "{drawn}");
        assert!(drawn.contains("       0 | @"), "{drawn}");
        let none = HeatReport { arrays: Vec::new() };
        assert!(text(&none, 80, false).contains("larder run"));
        assert_eq!(manifest_name([0; 4]).len(), 64);
    }
}
