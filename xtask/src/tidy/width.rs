//! Lines of Rust files have at most 100 columns.
//!
//! Let through: a line that is short without its string literals, one with an address, a row of
//! a table in a comment.

use super::finding::Finding;
use super::source::{Kind, Source};
use super::tree::Tree;

const COLUMNS_MAX: usize = 100;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        for (at, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !may_be_long(file, at + 1, line) {
                let what = format!("{columns} columns, {COLUMNS_MAX} is the limit");
                findings.push(Finding::new(&file.path, at + 1, what, "break the line"));
            }
        }
    }
    findings
}

fn may_be_long(file: &Source, number: usize, line: &str) -> bool {
    let comment = line
        .trim_start()
        .trim_start_matches(['/', '!'])
        .trim_start();
    let is_table = line.trim_start().starts_with("//") && comment.starts_with('|');
    let strings = file.tokens.iter().filter(|token| {
        token.kind == Kind::Literal
            && token.text.contains('"')
            && (token.lines.0..=token.lines.1).contains(&number)
    });
    let columns = line.chars().count();
    let in_strings: usize = strings
        .map(|token| {
            let start = if token.lines.0 == number {
                token.columns.0
            } else {
                0
            };
            let end = if token.lines.1 == number {
                token.columns.1
            } else {
                columns
            };
            end - start
        })
        .sum();
    let in_string = columns - in_strings <= COLUMNS_MAX && in_strings > 0;
    line.contains("://") || is_table || in_string
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn only_code_and_prose_must_break() {
        let long = "x".repeat(101);
        for good in [
            format!("// https://{long}"),
            format!("/// | {long} |"),
            format!("const X: &str = \"{long}\";"),
            format!("const X: &str = \"\n{long}\n\";"),
            format!("// {}", "ü".repeat(97)),
        ] {
            assert_eq!(places(check, &[("a/src/lib.rs", &good)]), [""; 0], "{good}");
        }
        for bad in [format!("// {long}"), format!("const {long}: &str = \"\";")] {
            assert_eq!(
                places(check, &[("a/src/lib.rs", &bad)]),
                ["a/src/lib.rs:1"],
                "{bad}"
            );
        }
    }
}
