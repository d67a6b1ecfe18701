//! A dependency is named somewhere in its crate's sources: in a path, a use, a macro or a derive.

use super::finding::Finding;
use super::source::Kind;
use super::tree::{Tree, line_of};

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &tree.crates {
        let path = member.manifest_path();
        let text = tree.file(&path).map_or("", |file| file.text.as_str());
        for (section, key, _) in member.dependencies() {
            let ident = key.replace('-', "_");
            let is_used = tree.files_of(member).any(|file| {
                let mut idents = file.tokens.iter().filter(|token| token.kind == Kind::Ident);
                idents.any(|token| {
                    token.text == ident || token.text.trim_start_matches("r#") == ident
                })
            });
            if !is_used {
                let what = format!("{key} in {section} is never named in the sources");
                let finding = Finding::new(&path, line_of(text, key), what, "delete the line");
                findings.push(finding.of_item(key));
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
    fn dependencies_are_used() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nthis-error = \"2\"\nnix = \"1\"\n";
        let with = |text| {
            let files = [
                ("x/Cargo.toml", manifest),
                ("x/src/lib.rs", text),
                ("x/y/src/lib.rs", "use nix::x;"),
            ];
            places(check, &files)
        };
        let derived = "#[derive(this_error::Error)] struct E; // nix\nuse nix::mount;";
        assert_eq!(with(derived), [""; 0]);
        assert_eq!(
            with("use this_error::E; // nix::mount\n"),
            ["x/Cargo.toml:5"]
        );
    }
}
