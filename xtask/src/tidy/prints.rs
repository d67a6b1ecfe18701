//! Only programs print; everything else returns values or logs with `tracing`.

use super::finding::Finding;
use super::source::Source;
use super::tree::{Tree, is_inside};

const PRINTS: [&str; 5] = ["println", "eprintln", "print", "eprint", "dbg"];
/// Folders whose files may print.
const FOLDERS: [&str; 3] = ["xtask", "hwtest", "engine/src/cli"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust_files().filter(|file| !may_print(&file.path));
    files.flat_map(check_file).collect()
}

fn may_print(path: &str) -> bool {
    path == "engine/src/cli.rs"
        || FOLDERS.iter().any(|folder| is_inside(path, folder))
        || path
            .split('/')
            .any(|part| matches!(part, "examples" | "build.rs"))
}

fn check_file(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, token) in file.tokens.iter().enumerate() {
        let is_print = PRINTS.contains(&token.text.as_str())
            && file.tokens.get(at + 1).is_some_and(|next| next.text == "!");
        if is_print && !file.is_test(token.lines.0) {
            let what = format!("{}! outside command output", token.text);
            let instead = "return the text, or use a tracing macro";
            findings.push(Finding::new(&file.path, token.lines.0, what, instead));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn only_programs_print() {
        let print = "fn f() {\n println!(\"x\"); }";
        for path in [
            "engine/src/cli/run.rs",
            "hwtest/src/main.rs",
            "x/examples/e.rs",
        ] {
            assert_eq!(places(check, &[(path, print)]), [""; 0], "{path}");
        }
        let test = format!("#[cfg(test)] mod tests {{ {print} }}");
        assert_eq!(places(check, &[("x/src/lib.rs", &test)]), [""; 0]);
        assert_eq!(
            places(check, &[("x/src/lib.rs", "// println!(x)")]),
            [""; 0]
        );
        assert_eq!(
            places(check, &[("x/src/lib.rs", print)]),
            ["x/src/lib.rs:2"]
        );
        assert_eq!(
            places(check, &[("engine/src/main.rs", print)]),
            ["engine/src/main.rs:2"]
        );
    }
}
