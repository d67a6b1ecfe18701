//! Every Rust file parses; the other rules see nothing in one that does not.

use super::finding::Finding;
use super::source::Source;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let broken = |source: &Source| {
        let (line, message) = source.error.as_ref()?;
        Some(Finding::new(
            &source.path,
            *line,
            format!("does not parse: {message}"),
            "repair it",
        ))
    };
    tree.files.iter().filter_map(broken).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn broken_files_are_reported() {
        assert_eq!(places(check, &[("a/src/lib.rs", "fn f() {}")]), [""; 0]);
        for bad in ["fn f( {}", "fn fn f() {}", "let x = \"open;"] {
            assert_eq!(
                places(check, &[("a/src/lib.rs", bad)]),
                ["a/src/lib.rs:1"],
                "{bad}"
            );
        }
    }
}
