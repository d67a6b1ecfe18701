//! The two documents that everyone reads are there, are short, and know every crate.

use super::finding::Finding;
use super::tree::Tree;

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";
const LINES_MAX: [(&str, usize); 2] = [("README.md", 150), (ARCHITECTURE, 400)];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, lines_max) in LINES_MAX {
        let Some(file) = tree.file(path) else {
            findings.push(Finding::new(path, 1, "it is missing", "write it"));
            continue;
        };
        let lines = file.text.lines().count();
        if lines > lines_max {
            let what = format!("{lines} lines, {lines_max} is the limit");
            let instead = "keep what does not change; details belong at the code";
            findings.push(Finding::new(path, lines_max + 1, what, instead));
        }
    }
    if let Some(file) = tree.file(ARCHITECTURE) {
        let is_name = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        let names = |word: &&str| file.text.split(|c| !is_name(c)).any(|other| other == *word);
        for name in tree
            .crates
            .iter()
            .filter(|c| c.is_member())
            .map(|c| c.name.as_str())
        {
            if !names(&name) {
                let what = format!("crate {name} is not in the codemap");
                findings.push(Finding::new(ARCHITECTURE, 1, what, "say what it holds"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn documents_are_short_and_complete() {
        let of = |readme: &str, map: &str| {
            places(
                check,
                &[
                    ("README.md", readme),
                    (ARCHITECTURE, map),
                    ("a/b/src/lib.rs", ""),
                ],
            )
        };
        assert_eq!(of("r\n", "`a-b` holds b.\n"), [""; 0]);
        assert_eq!(of(&"r\n".repeat(151), "`a-b`"), ["README.md:151"]);
        assert_eq!(of("r", &"a-b\n".repeat(401)), ["docs/ARCHITECTURE.md:401"]);
        assert_eq!(of("r", "a-b-c"), ["docs/ARCHITECTURE.md:1"]);
        assert_eq!(
            places(check, &[]),
            ["README.md:1", "docs/ARCHITECTURE.md:1"]
        );
    }
}
