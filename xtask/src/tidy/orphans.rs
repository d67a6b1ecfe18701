//! Every Rust file is compiled: as the root of a target, as a module of one, or by `include!`.

use super::finding::Finding;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let orphans = tree
        .rust_files()
        .filter(|file| !tree.modules.reaches(&file.path));
    orphans
        .map(|file| {
            let instead = "declare it in its parent, in reading order, or delete it";
            Finding::new(&file.path, 1, "no target contains this file", instead)
        })
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
        ];
        assert_eq!(
            places(check, &files),
            ["lost.rs:1", "x/src/c.rs:1", "x/tests/two/lost.rs:1"]
        );
    }
}
