//! Names say what a thing provides; the words that say nothing are not used.

use super::finding::Finding;
use super::modules::declarations;
use super::tree::{Tree, line_of};

const EMPTY_WORDS: [&str; 9] = [
    "util", "utils", "common", "base", "misc", "manager", "managers", "helper", "helpers",
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |path: &str, line, name: &str| {
        let what = format!("{name} says nothing about what it provides");
        findings.push(Finding::new(
            path,
            line,
            what,
            "name the noun that it holds",
        ));
    };
    for member in &tree.crates {
        let path = member.manifest_path();
        if let Some(word) = member
            .name
            .split(['-', '_'])
            .find(|word| is_empty_word(word))
        {
            report(
                &path,
                tree.file(&path)
                    .map_or(1, |file| line_of(&file.text, "name")),
                word,
            );
        }
    }
    for file in tree.rust_files() {
        let parts = file.path.trim_end_matches(".rs").split('/');
        if let Some(part) = parts.clone().find(|part| is_empty_word(part)) {
            report(&file.path, 1, part);
        }
        for declaration in declarations(file) {
            let name = &file.tokens[declaration.at];
            if is_empty_word(&name.text) {
                report(&file.path, name.lines.0, &name.text);
            }
        }
    }
    for file in tree.rust_files().filter(|file| hides_name(&file.path)) {
        let folder = file.path.trim_end_matches("/mod.rs");
        let instead = format!("move it to {folder}.rs");
        findings.push(Finding::new(
            &file.path,
            1,
            "mod.rs hides its name",
            instead,
        ));
    }
    findings
}

/// `foo/mod.rs` where `foo.rs` would do. What test targets share has to be `tests/foo/mod.rs`:
/// cargo takes `tests/foo.rs` for a target.
fn hides_name(path: &str) -> bool {
    path.strip_suffix("/mod.rs").is_some_and(|folder| {
        folder
            .rsplit_once('/')
            .is_none_or(|(parent, _)| !parent.ends_with("tests"))
    })
}

fn is_empty_word(word: &str) -> bool {
    EMPTY_WORDS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn names_say_something() {
        let good = [
            ("x/src/lib.rs", "mod baseline;"),
            ("x/src/baseline.rs", ""),
            ("x/tests/a/mod.rs", ""),
        ];
        assert_eq!(places(check, &good), [""; 0]);
        let declared = [("x/src/lib.rs", "\nmod util {}")];
        assert_eq!(places(check, &declared), ["x/src/lib.rs:2"]);
        assert_eq!(
            places(check, &[("x/src/helpers/a.rs", "")]),
            ["x/src/helpers/a.rs:1"]
        );
        assert_eq!(
            places(check, &[("x/src/a/mod.rs", "")]),
            ["x/src/a/mod.rs:1"]
        );
        let named = [("x/Cargo.toml", "[package]\nname = \"larder-common\"\n")];
        assert_eq!(places(check, &named), ["x/Cargo.toml:2"]);
    }
}
