//! Versions stand once, in the workspace's manifest; members inherit them, and the lints too.

use super::finding::Finding;
use super::tree::{Tree, line_of};

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in tree.crates.iter().filter(|member| member.is_member()) {
        let path = member.manifest_path();
        let text = tree.file(&path).map_or("", |file| file.text.as_str());
        let inherits = |value: &toml::Value| {
            value.get("workspace").and_then(toml::Value::as_bool) == Some(true)
        };
        for (section, key, value) in member.dependencies() {
            if !inherits(value) {
                let what = format!("{key} in {section} has a version or path of its own");
                let instead = format!(
                    "put it into [workspace.dependencies] and write {key}.workspace = true"
                );
                findings.push(Finding::new(&path, line_of(text, key), what, instead));
            }
        }
        if !member.manifest.get("lints").is_some_and(inherits) {
            let what = format!("{} does not share the lints", member.name);
            findings.push(Finding::new(&path, 1, what, "add [lints] workspace = true"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    fn of(manifest: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"x\"\n{manifest}");
        places(check, &[("x/Cargo.toml", &manifest)])
    }

    #[test]
    fn members_inherit() {
        let lints = "[lints]\nworkspace = true\n";
        let good = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [] }\n";
        assert_eq!(of(&format!("{lints}{good}")), [""; 0]);
        let bad = "[dev-dependencies]\na = \"1\"\nb = { path = \"../b\" }\n";
        assert_eq!(
            of(&format!("{lints}{bad}")),
            ["x/Cargo.toml:6", "x/Cargo.toml:7"]
        );
        assert_eq!(of(""), ["x/Cargo.toml:1"]);
    }
}
