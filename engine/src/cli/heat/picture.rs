//! The heat map as a file: SVG with titles and legend, or PNG with one square per block.

use super::map::{ArrayHeat, HeatReport, LEVELS, least, level};
use crate::cli::error::CliError;
use std::fmt::Write as _;
use std::path::Path;

/// Blocks in a row, and pixels of the square of a block.
const ROW: usize = 64;
const SQUARE: usize = 10;
/// Pixels around the squares, and of a line of text.
const MARGIN: usize = 12;
const LINE: usize = 18;

/// Cold to hot, readable by the colour-blind: levels of equal steps in lightness.
const COLOURS: [[u8; 3]; LEVELS as usize + 1] = [
    [245, 245, 245],
    [255, 237, 160],
    [254, 217, 118],
    [254, 178, 76],
    [253, 141, 60],
    [252, 78, 42],
    [227, 26, 28],
    [177, 0, 38],
    [90, 0, 30],
];

/// The file's bytes, by what its name ends with.
pub(super) fn picture(path: &Path, report: &HeatReport) -> Result<Vec<u8>, CliError> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => Ok(svg(report).into_bytes()),
        Some("png") => png(report).map_err(|source| CliError::File {
            path: path.to_path_buf(),
            source: std::io::Error::other(source),
        }),
        _ => Err(CliError::Usage(format!(
            "--out {}: give a name that ends with .svg or .png",
            path.display()
        ))),
    }
}

fn rows(array: &ArrayHeat) -> usize {
    array.blocks.len().div_ceil(ROW)
}

fn colour(level: u32) -> String {
    let [red, green, blue] = COLOURS[level as usize];
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn svg(report: &HeatReport) -> String {
    let width = 2 * MARGIN + ROW * SQUARE;
    let of_array = |array: &ArrayHeat| 3 * LINE + rows(array) * SQUARE + MARGIN;
    let height = MARGIN + report.arrays.iter().map(of_array).sum::<usize>();
    // Writing to a string does not fail, here and below.
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut top = MARGIN;
    for array in &report.arrays {
        let hottest = array.hottest();
        let _ = writeln!(
            text,
            "<text x=\"{MARGIN}\" y=\"{}\">{}</text>",
            top + LINE - 6,
            array.title()
        );
        top += LINE;
        for (index, block) in array.blocks.iter().enumerate() {
            let (x, y) = (index % ROW * SQUARE + MARGIN, index / ROW * SQUARE + top);
            let side = SQUARE - 1;
            let fill = colour(level(block.heat, hottest));
            let id = array.block_first + index as u64;
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" fill=\"{fill}\">\
                 <title>block {id}: {}</title></rect>",
                block.heat
            );
        }
        top += rows(array) * SQUARE + LINE / 2;
        legend(&mut text, top, hottest);
        top += LINE + LINE / 2 + MARGIN;
    }
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String, top: usize, hottest: u64) {
    let step = 2 * MARGIN + ROW * SQUARE;
    let step = (step - 2 * MARGIN) / (LEVELS as usize + 1);
    for wanted in 0..=LEVELS {
        let from = if wanted == 0 {
            0
        } else {
            least(wanted, hottest)
        };
        let x = MARGIN + wanted as usize * step;
        let fill = colour(wanted);
        let side = SQUARE - 1;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{top}\" width=\"{side}\" height=\"{side}\" fill=\"{fill}\"/>\
             <text x=\"{}\" y=\"{}\">{from}</text>",
            x + SQUARE + 3,
            top + SQUARE - 1
        );
    }
}

/// One square per block, arrays below each other.
fn png(report: &HeatReport) -> Result<Vec<u8>, png::EncodingError> {
    let width = 2 * MARGIN + ROW * SQUARE;
    let of_array = |array: &ArrayHeat| rows(array) * SQUARE + MARGIN;
    let height = MARGIN + report.arrays.iter().map(of_array).sum::<usize>();
    let mut pixels = vec![255; width * height * 3];
    let mut top = MARGIN;
    for array in &report.arrays {
        let hottest = array.hottest();
        for (index, block) in array.blocks.iter().enumerate() {
            let colour = COLOURS[level(block.heat, hottest) as usize];
            let (left, first) = (index % ROW * SQUARE + MARGIN, index / ROW * SQUARE + top);
            for y in first..first + SQUARE - 1 {
                let at = (y * width + left) * 3;
                for pixel in pixels[at..at + (SQUARE - 1) * 3].chunks_exact_mut(3) {
                    pixel.copy_from_slice(&colour);
                }
            }
        }
        top += of_array(array);
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::HeatCount;
    use larder_ebpf::{HeatEntry, Region};

    fn report() -> HeatReport {
        let entries: Vec<HeatEntry> = (0..100)
            .map(|touches| HeatEntry {
                touches,
                ..HeatEntry::default()
            })
            .collect();
        let array = ArrayHeat::new(0, &Region::default(), &entries, HeatCount::All);
        HeatReport {
            arrays: vec![array],
        }
    }

    #[test]
    fn the_name_says_the_format() {
        let report = report();
        let svg = picture(Path::new("a.svg"), &report).expect("drawn");
        let svg = String::from_utf8(svg).expect("text");
        // The ground, one per block, one per level.
        let squares = 1 + 100 + LEVELS as usize + 1;
        assert_eq!(svg.matches("<rect").count(), squares);
        assert!(svg.contains("block 99: 99"));
        let png = picture(Path::new("a.png"), &report).expect("drawn");
        let decoder = png::Decoder::new(std::io::Cursor::new(&png));
        let mut reader = decoder.read_info().expect("a picture");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        let info = reader.next_frame(&mut pixels).expect("whole");
        assert_eq!(info.width as usize, 2 * MARGIN + ROW * SQUARE);
        let at = |block: usize| {
            let (x, y) = (block % ROW * SQUARE + MARGIN, block / ROW * SQUARE + MARGIN);
            &pixels[(y * info.width as usize + x) * 3..][..3]
        };
        assert_eq!(at(0), COLOURS[0]);
        assert_eq!(at(99), COLOURS[LEVELS as usize]);
        let error = picture(Path::new("a.gif"), &report).expect_err("no such");
        assert_eq!(error.exit_code(), 2);
    }
}
