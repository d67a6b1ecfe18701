//! Notes of unfinished work carry the number of their issue; broken things are not committed.

use super::finding::Finding;
use super::source::Source;
use super::tree::Tree;

// Written in two halves, so that this file passes its own rule.
const LATER: &str = concat!("TO", "DO");
const BROKEN: &str = concat!("FIX", "ME");

/// Files other than Rust that are written by hand.
const SUFFIXES: [&str; 6] = [".toml", ".md", ".sh", ".yml", ".py", ".cu"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().flat_map(check_file).collect()
}

fn check_file(file: &Source) -> Vec<Finding> {
    if file.is_rust() {
        let comments = file.comments.iter();
        return comments
            .flat_map(|c| check_text(&file.path, c.line, &c.text))
            .collect();
    }
    if SUFFIXES.iter().any(|suffix| file.path.ends_with(suffix)) {
        return check_text(&file.path, 1, &file.text);
    }
    Vec::new()
}

fn check_text(path: &str, first: usize, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.contains(BROKEN) {
            let what = format!("{BROKEN} blocks a merge");
            findings.push(Finding::new(path, first + at, what, "repair it now"));
        }
        if line
            .match_indices(LATER)
            .any(|(start, _)| !has_issue(&line[start + LATER.len()..]))
        {
            let what = format!("{LATER} without an issue");
            let instead = format!("write {LATER}(#12) with its number");
            findings.push(Finding::new(path, first + at, what, instead));
        }
    }
    findings
}

/// Whether `rest` begins with `(#` digits `)`.
fn has_issue(rest: &str) -> bool {
    let number = rest
        .strip_prefix("(#")
        .and_then(|rest| rest.split_once(')'));
    number.is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn notes_have_a_number() {
        let good = format!("// {LATER}(#12): faster\nconst X: &str = \"{LATER}\";");
        assert_eq!(places(check, &[("x/src/lib.rs", &good)]), [""; 0]);
        for bad in [
            format!("// {LATER}: faster"),
            format!("/// {LATER}(#x)"),
            format!("//{BROKEN}"),
        ] {
            assert_eq!(
                places(check, &[("x/src/lib.rs", &bad)]),
                ["x/src/lib.rs:1"],
                "{bad}"
            );
        }
        let other = format!("\n# {LATER} later");
        assert_eq!(places(check, &[("run.sh", &other)]), ["run.sh:2"]);
    }
}
