//! Every Rust file is compiled: as the root of a target, as a module of one, or by `include!`; and
//! nothing that patches and editors leave behind is kept.

use super::finding::Finding;
use super::tree::Tree;

/// How names of copies end that `patch`, `git apply` and editors leave beside a file.
const LEFT_BEHIND: [&str; 4] = [".orig", ".rej", "~", ".swp"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = left_behind(tree);
    let orphans = tree
        .rust_files()
        .filter(|file| !tree.modules.reaches(&file.path));
    findings.extend(orphans.map(|file| {
        let instead = "declare it in its parent, in reading order, or delete it";
        Finding::new(&file.path, 1, "no target contains this file", instead)
    }));
    findings
}

fn left_behind(tree: &Tree) -> Vec<Finding> {
    let copies = tree
        .files
        .iter()
        .filter(|file| LEFT_BEHIND.iter().any(|end| file.path.ends_with(end)));
    copies
        .map(|file| Finding::new(&file.path, 1, "a copy that was left behind", "delete it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn files_belong_to_a_target() {
        let files = [
            ("x/src/lib.rs", "mod a; include!(\"b.rs\");"),
            ("x/src/a.rs", ""),
            ("x/src/b.rs", ""),
            ("x/src/c.rs", "// mod a;"),
            ("x/build.rs", ""),
            ("x/benches/speed.rs", ""),
            ("x/tests/two/main.rs", ""),
            ("x/tests/two/lost.rs", ""),
            ("lost.rs", ""),
            ("x/src/a.rs.orig", ""),
            ("README.md~", ""),
        ];
        assert_eq!(
            places(check, &files),
            [
                "README.md~:1",
                "x/src/a.rs.orig:1",
                "lost.rs:1",
                "x/src/c.rs:1",
                "x/tests/two/lost.rs:1"
            ]
        );
    }
}
