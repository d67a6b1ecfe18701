//! What commands print: one JSON object, or aligned rows of label and value.

use super::error::CliError;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::AsFd;

/// Prints a report to standard output: as one JSON object, or as the text that `plain` makes.
pub(super) fn print(
    is_json: bool,
    report: &impl Serialize,
    plain: impl FnOnce() -> String,
) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let written = if is_json {
        serde_json::to_writer(&mut out, report).map_err(std::io::Error::from)
    } else {
        let text = plain();
        out.write_all(text.strip_suffix('\n').unwrap_or(&text).as_bytes())
    };
    written
        .and_then(|()| writeln!(out))
        .map_err(CliError::output)
}

/// A table under a title.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<(String, String)>,
}

impl Table {
    pub(super) fn row(&mut self, label: &str, value: impl Into<String>) {
        self.rows.push((label.to_owned(), value.into()));
    }

    /// The rows in two columns; values that do not fit `width` go on below themselves.
    pub(super) fn render(&self, width: usize) -> String {
        let label = self
            .rows
            .iter()
            .map(|(label, _)| label.chars().count())
            .max()
            .unwrap_or(0);
        let room = width.saturating_sub(label + 4).max(20);
        let mut text = String::new();
        for (name, value) in &self.rows {
            let mut lines = wrap(value, room).into_iter();
            let first = lines.next().unwrap_or_default();
            let _ = writeln!(text, "  {name:<label$}  {first}");
            for line in lines {
                let _ = writeln!(text, "  {:<label$}  {line}", "");
            }
        }
        text
    }
}

/// Breaks at spaces so that lines have at most `room` characters where words allow.
fn wrap(value: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in value.split(' ') {
        let line = lines.last_mut().expect("starts with one line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Columns of the terminal that a report goes to; in a file or a pipe a row is one line.
pub(super) fn width_of(output: impl AsFd) -> usize {
    terminal_size::terminal_size_of(output).map_or(usize::MAX, |(width, _)| width.0.into())
}

/// As [`width_of`], of standard output.
pub(super) fn width() -> usize {
    width_of(std::io::stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_line_up_and_wrap() {
        let mut table = Table::default();
        table.row("a", "one");
        table.row("long", "some words that do not fit");
        assert_eq!(
            table.render(28),
            "  a     one\n  long  some words that do\n        not fit\n"
        );
    }
}
