//! No file names a place on somebody's machine.

use super::finding::Finding;
use super::tree::Tree;

/// Written without the slash at the end, so that this file passes its own rule.
const FOLDERS: [&str; 3] = ["/home", "/root", "/Users"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(folder) = FOLDERS.iter().find(|folder| names(line, folder)) {
                let what = format!("{folder}/... exists on one machine only");
                let instead = "use a path relative to the checkout, or an argument";
                findings.push(Finding::new(&file.path, at + 1, what, instead));
            }
        }
    }
    findings
}

/// Whether an absolute path in `line` begins with `folder`.
fn names(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let is_inner = |c: char| c.is_alphanumeric() || "._-~}*".contains(c);
        !before.is_some_and(is_inner) && line[start + folder.len()..].starts_with('/')
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn paths_are_relative() {
        let with = |before: &str| format!("\n{before}{}/x", FOLDERS[2]);
        for good in ["a", "../", "${ROOT}", "src"] {
            let text = with(good.trim_end_matches('/'));
            assert_eq!(places(check, &[("a.md", &text)]), [""; 0], "{text}");
        }
        for bad in ["", "see `", "path=", "file://"] {
            assert_eq!(places(check, &[("a.md", &with(bad))]), ["a.md:2"], "{bad}");
        }
    }
}
