//! What drawings have in common: a white page, axes with labels, a legend. SVG without scripts.

use std::fmt::Write as _;

/// Told apart by the colour-blind. Source: Okabe and Ito, 2008.
pub(super) const COLOURS: [&str; 6] = [
    "#999999", "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#000000",
];
/// Width of a letter of a label, in pixels, about.
const LETTER: f64 = 7.0;

/// A rectangle with axes to the left and below, in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    fn right(&self) -> f64 {
        self.left + self.width
    }

    /// The place of shares of its width, from the left, and of its height, from below.
    pub(super) fn place(&self, across: f64, up: f64) -> (f64, f64) {
        let x = self.left + across * self.width;
        (x, self.bottom() - up * self.height)
    }
}

/// An SVG file that is being written. Writing to a string does not fail.
pub(super) struct Drawing {
    text: String,
}

impl Drawing {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        Self { text }
    }

    /// A word at (x, y); it may hold anything, such as the name of a file.
    pub(super) fn words(&mut self, (x, y): (f64, f64), style: &str, words: &str) {
        let words = escaped(words);
        let _ = writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\"{style}>{words}</text>"
        );
    }

    /// Colours with their names from (x, y) on to the right.
    pub(super) fn legend<'a>(
        &mut self,
        (mut x, y): (f64, f64),
        entries: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        for (name, colour) in entries {
            self.bar((x, y), (12.0, 12.0), colour, name);
            self.words((x + 17.0, y + 11.0), "", name);
            x += 17.0 + LETTER * name.chars().count() as f64 + 16.0;
        }
    }

    /// A title above an area.
    pub(super) fn title(&mut self, area: &Area, title: &str) {
        self.words((area.left, area.top - 8.0), " font-weight=\"bold\"", title);
    }

    /// A line across at a share of the height, with what it stands for to its left.
    pub(super) fn level(&mut self, area: &Area, up: f64, label: &str) {
        let (x, y) = area.place(0.0, up);
        let right = area.right();
        let _ = writeln!(
            self.text,
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>"
        );
        let style = " text-anchor=\"end\" font-size=\"10\"";
        self.words((x - 4.0, y + 3.0), style, label);
    }

    /// A mark below the area at a share of its width.
    pub(super) fn mark(&mut self, area: &Area, across: f64, label: &str) {
        let (x, y) = area.place(across, 0.0);
        let end = y + 4.0;
        let _ = writeln!(
            self.text,
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{end:.1}\" stroke=\"#666666\"/>"
        );
        let style = " text-anchor=\"middle\" font-size=\"10\"";
        self.words((x, y + 15.0), style, label);
    }

    /// A dashed line up the area at a share of its width, named at its top.
    pub(super) fn upright(&mut self, area: &Area, across: f64, label: &str) {
        let (x, bottom) = area.place(across, 0.0);
        let top = area.top;
        let _ = writeln!(
            self.text,
            "<line x1=\"{x:.1}\" y1=\"{bottom:.1}\" x2=\"{x:.1}\" y2=\"{top:.1}\" \
             stroke=\"#666666\" stroke-dasharray=\"4 3\"/>"
        );
        self.words((x + 4.0, top + 10.0), " font-size=\"10\"", label);
    }

    /// A filled rectangle whose upper left corner is at (x, y), and what a pointer reads there.
    pub(super) fn bar(
        &mut self,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        colour: &str,
        says: &str,
    ) {
        let says = escaped(says);
        let _ = writeln!(
            self.text,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{colour}\"><title>{says}</title></rect>"
        );
    }

    /// A line through places.
    pub(super) fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, colour: &str) {
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        let _ = writeln!(
            self.text,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        );
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

fn escaped(words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    words.replace('>', "&gt;").replace('"', "&quot;")
}

/// Distance of round numbers of which at most six reach from 0 to `most`.
pub(super) fn round_step(most: f64) -> f64 {
    let rough = (most / 6.0).max(1e-9);
    let ten = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * ten);
    steps
        .into_iter()
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0 * ten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (most, step) in [
            (6.0, 1.0),
            (7.0, 2.0),
            (0.9, 0.2),
            (30.0, 5.0),
            (59.0, 10.0),
        ] {
            assert!((round_step(most) - step).abs() < 1e-9, "{most}");
        }
        assert!(round_step(0.0) > 0.0);
    }

    #[test]
    fn names_cannot_end_the_drawing() {
        let mut drawing = Drawing::new(10.0, 10.0);
        drawing.legend((0.0, 0.0), [("</svg>\"&", COLOURS[0])].into_iter());
        let text = drawing.finish();
        assert_eq!(text.matches("</svg>").count(), 1);
        assert!(text.contains("&lt;/svg&gt;&quot;&amp;"), "{text}");
    }
}
