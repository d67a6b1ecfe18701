//! The environment is read once, where a binary makes its configuration, and passed from there.

use super::finding::Finding;
use super::source::Source;
use super::tree::{Tree, is_inside};

/// What reads or changes the environment or the arguments in `std::env`.
const READS: [&str; 9] = [
    "var",
    "vars",
    "var_os",
    "vars_os",
    "args",
    "args_os",
    "set_var",
    "remove_var",
    "temp_dir",
];

const PLACES: [&str; 2] = ["engine/src/main.rs", "engine/src/cli/config.rs"];
const FOLDERS: [&str; 2] = ["xtask", "hwtest"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust_files().filter(|file| !may_read(&file.path));
    files.flat_map(check_file).collect()
}

fn may_read(path: &str) -> bool {
    PLACES.contains(&path)
        || FOLDERS.iter().any(|folder| is_inside(path, folder))
        || path
            .split('/')
            .any(|part| matches!(part, "examples" | "build.rs"))
}

fn check_file(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for at in file.find("env ::") {
        let line = file.tokens[at].lines.0;
        let Some(next) = file.tokens.get(at + 2) else {
            continue;
        };
        let named = &file.tokens[at + 2..=next.close];
        let read = named
            .iter()
            .find(|token| READS.contains(&token.text.as_str()));
        if let Some(read) = read.filter(|_| !file.is_test(line)) {
            let what = format!("env::{} outside the configuration", read.text);
            let instead = format!("read it in {} and pass the value down", PLACES[1]);
            findings.push(Finding::new(&file.path, line, what, instead));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn only_configuration_reads_it() {
        let read = "fn f() { std::env::var(\"X\"); }";
        for path in [
            "engine/src/main.rs",
            "xtask/src/a.rs",
            "x/build.rs",
            "x/tests/t.rs",
        ] {
            let files = [("x/src/lib.rs", ""), (path, read)];
            assert_eq!(places(check, &files), [""; 0], "{path}");
        }
        for bad in [
            read,
            "use std::env::{self, args};",
            "fn f() { env::vars_os(); }",
        ] {
            assert_eq!(
                places(check, &[("x/src/lib.rs", bad)]),
                ["x/src/lib.rs:1"],
                "{bad}"
            );
        }
        for good in [
            "use std::env;",
            "const X: &str = env!(\"X\");",
            "env::consts::OS;",
        ] {
            assert_eq!(places(check, &[("x/src/lib.rs", good)]), [""; 0], "{good}");
        }
    }
}
