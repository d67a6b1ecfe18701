//! Tests run, say what they expect, and wait for events instead of sleeping.

use super::finding::Finding;
use super::source::{Source, Token};
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        check_attributes(file, &mut findings);
        check_sleeps(file, &mut findings);
    }
    findings
}

fn check_attributes(file: &Source, findings: &mut Vec<Finding>) {
    for at in file.find("# [") {
        let inner = &file.tokens[at + 2..file.tokens[at + 1].close];
        let names = |word: &str| names(inner, word);
        let (what, instead) = if names("ignore") {
            let instead = "print `skipped: reason` and return where a need is missing";
            ("an ignored test never runs", instead)
        } else if names("should_panic") {
            (
                "should_panic accepts any panic",
                "return the error and compare it",
            )
        } else {
            continue;
        };
        findings.push(Finding::new(
            &file.path,
            file.tokens[at].lines.0,
            what,
            instead,
        ));
    }
}

/// The attribute is `word`, or applies it by `cfg_attr`.
fn names(attribute: &[Token], word: &str) -> bool {
    let mut tokens = attribute.iter().map(|token| token.text.as_str());
    match tokens.next() {
        Some("cfg_attr") => tokens.any(|text| text == word),
        first => first == Some(word),
    }
}

fn check_sleeps(file: &Source, findings: &mut Vec<Finding>) {
    for module in ["thread", "time"] {
        for at in file.find(&format!("{module} :: sleep")) {
            let line = file.tokens[at].lines.0;
            if file.is_test(line) {
                let what = format!("a test that waits by {module}::sleep");
                let instead = "wait for the event, or pass a simulated clock";
                findings.push(Finding::new(&file.path, line, what, instead));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn tests_run_and_do_not_sleep() {
        let good =
            "fn f() { thread::sleep(d); }\n#[cfg(test)] mod tests { #[test] fn ignore() {} }";
        assert_eq!(places(check, &[("x/src/lib.rs", good)]), [""; 0]);
        for bad in [
            "#[test] #[ignore] fn f() {}",
            "#[test] #[ignore = \"slow\"] fn f() {}",
            "#[cfg_attr(miri, ignore)] fn f() {}",
            "#[should_panic(expected = \"x\")] fn f() {}",
            "#[cfg(test)] mod tests { fn f() { std::thread::sleep(d); } }",
        ] {
            assert_eq!(
                places(check, &[("x/src/lib.rs", bad)]),
                ["x/src/lib.rs:1"],
                "{bad}"
            );
        }
        let target = [
            ("x/src/lib.rs", ""),
            ("x/tests/t.rs", "use std::thread::sleep;"),
        ];
        assert_eq!(places(check, &target), ["x/tests/t.rs:1"]);
    }
}
