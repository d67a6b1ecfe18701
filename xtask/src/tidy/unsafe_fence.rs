//! Unsafe code has an address: it lives in the fence crates only, and each says why.

use super::finding::Finding;
use super::source::{Kind, Source};
use super::tree::{Crate, TargetKind, Tree, is_inside};

/// Folders of the crates that may hold unsafe code.
const FENCES: [&str; 4] = ["cxl-pool/sys", "engine/cpu", "engine/cuda", "ebpf/probes"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &tree.crates {
        if FENCES.contains(&member.folder.as_str()) {
            check_fence(tree, member, &mut findings);
        } else if member.is_member() {
            check_outside(tree, member, &mut findings);
        }
    }
    for file in tree
        .rust_files()
        .filter(|file| !FENCES.iter().any(|f| is_inside(&file.path, f)))
    {
        if let Some(line) = first_unsafe(file) {
            let instead = format!("move it behind a safe type in one of: {}", FENCES.join(" "));
            findings.push(Finding::new(
                &file.path,
                line,
                "unsafe outside the fences",
                instead,
            ));
        }
    }
    findings
}

/// A fence that holds unsafe code opens with the reason.
fn check_fence(tree: &Tree, member: &Crate, findings: &mut Vec<Finding>) {
    let src = format!("{}/src", member.folder);
    let mut files = tree
        .files_of(member)
        .filter(|file| is_inside(&file.path, &src));
    if files.all(|file| first_unsafe(file).is_none()) {
        return;
    }
    for root in roots(tree, member) {
        let has_reason = root
            .comments
            .iter()
            .any(|comment| comment.text.contains("UNSAFETY: "));
        if !has_reason {
            let instead = "add a line `//! UNSAFETY: ...` that says what needs it";
            findings.push(Finding::new(
                &root.path,
                1,
                "a fence without its reason",
                instead,
            ));
        }
        if root.find("# ! [ expect ( unsafe_code").next().is_none() {
            let instead = "add #![expect(unsafe_code, reason = \"...\")]";
            findings.push(Finding::new(
                &root.path,
                1,
                "a fence that does not say so",
                instead,
            ));
        }
    }
}

fn check_outside(tree: &Tree, member: &Crate, findings: &mut Vec<Finding>) {
    for root in roots(tree, member) {
        if root.find("# ! [ forbid ( unsafe_code").next().is_none() {
            let instead = "add #![forbid(unsafe_code)]";
            findings.push(Finding::new(
                &root.path,
                1,
                "a crate that allows unsafe",
                instead,
            ));
        }
    }
}

fn roots<'a>(tree: &'a Tree, member: &'a Crate) -> impl Iterator<Item = &'a Source> {
    let is_product = |kind| matches!(kind, TargetKind::Lib | TargetKind::Bin);
    let targets = member
        .targets
        .iter()
        .filter(move |target| is_product(target.kind));
    targets.filter_map(|target| tree.file(&target.path))
}

/// Line of the first `unsafe` that is neither an identifier in an attribute nor a function type.
fn first_unsafe(file: &Source) -> Option<usize> {
    let mut tokens = file.tokens.iter();
    tokens
        .find(|token| token.kind == Kind::Ident && token.text == "unsafe")
        .map(|t| t.lines.0)
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn other_crates_forbid_it() {
        let good = "#![forbid(unsafe_code)]\n// unsafe\nconst X: &str = \"unsafe\";";
        assert_eq!(places(check, &[("x/src/lib.rs", good)]), [""; 0]);
        assert_eq!(places(check, &[("x/src/lib.rs", "")]), ["x/src/lib.rs:1"]);
        let bad = [
            ("x/src/lib.rs", "#![forbid(unsafe_code)]"),
            ("x/tests/t.rs", "\nunsafe fn f() {}"),
        ];
        assert_eq!(places(check, &bad), ["x/tests/t.rs:2"]);
    }

    #[test]
    fn fences_say_why() {
        let head = "//! UNSAFETY: system calls.\n#![expect(unsafe_code, reason = \"r\")]\n";
        let body = "unsafe fn f() {}\n";
        let path = "engine/cpu/src/lib.rs";
        assert_eq!(places(check, &[(path, &format!("{head}{body}"))]), [""; 0]);
        assert_eq!(places(check, &[(path, "fn not_yet() {}")]), [""; 0]);
        assert_eq!(places(check, &[(path, body)]).len(), 2);
    }
}
