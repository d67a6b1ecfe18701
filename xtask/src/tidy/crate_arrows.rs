//! Arrows between our crates: which crate may depend on which, in any kind of dependency.

use super::finding::Finding;
use super::tree::{Crate, Tree, line_of};

/// Each crate with those that it may use, lowest first.
const ARROWS: &[(&str, &[&str])] = &[
    ("larder-sys", &[]),
    ("larder-abi", &[]),
    ("larder-cpu", &[]),
    ("larder-probes", &["larder-abi"]),
    ("larder-pool", &["larder-sys"]),
    ("larder-ebpf", &["larder-abi", "larder-sys"]),
    ("larder-cuda", &["larder-pool"]),
    (
        "larder",
        &["larder-pool", "larder-cpu", "larder-cuda", "larder-ebpf"],
    ),
];

/// They see every crate, and no crate sees them; neither does any crate see fuzz targets.
const TOOLS: [&str; 2] = ["larder-hwtest", "xtask"];

fn is_tool(member: &Crate) -> bool {
    TOOLS.contains(&member.name.as_str()) || !member.is_member()
}

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &tree.crates {
        let path = member.manifest_path();
        let text = tree.file(&path).map_or("", |file| file.text.as_str());
        let is_tool = is_tool(member);
        let allowed = ARROWS
            .iter()
            .find(|(name, _)| *name == member.name)
            .map(|(_, to)| *to);
        if !is_tool && allowed.is_none() {
            let what = format!("crate {} has no arrows", member.name);
            let instead = "add it to ARROWS in xtask/src/tidy/crate_arrows.rs, or fold it in";
            findings.push(Finding::new(&path, line_of(text, "name"), what, instead));
        }
        for (_, key, value) in member.dependencies() {
            let renamed = value.get("package").and_then(toml::Value::as_str);
            let to = renamed.unwrap_or(key);
            let Some(other) = tree.crates.iter().find(|other| other.name == to) else {
                continue;
            };
            let sees = is_tool || allowed.is_some_and(|allowed| allowed.contains(&to));
            if !sees || self::is_tool(other) {
                let what = format!("{} must not know {to}", member.name);
                let instead = "turn the arrow round: a trait below, its implementation above";
                findings.push(Finding::new(&path, line_of(text, key), what, instead));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    fn of(name: &str, dependencies: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"{name}\"\n{dependencies}");
        let other = |name: &str| format!("[package]\nname = \"{name}\"\n");
        places(
            check,
            &[
                ("x/Cargo.toml", &manifest),
                ("pool/Cargo.toml", &other("larder-pool")),
                ("sys/Cargo.toml", &other("larder-sys")),
                ("xtask/Cargo.toml", &other("xtask")),
            ],
        )
    }

    #[test]
    fn arrows_point_down_only() {
        assert_eq!(
            of("larder", "[dependencies]\nlarder-pool.workspace = true\n"),
            [""; 0]
        );
        assert_eq!(
            of("larder-hwtest", "[dependencies]\nlarder-sys = {}\n"),
            [""; 0]
        );
        assert_eq!(of("larder-abi", "[dependencies]\nserde = \"1\"\n"), [""; 0]);
        for section in [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let bad = of(
                "larder",
                &format!("[{section}]\nlarder-sys.workspace = true\n"),
            );
            assert_eq!(bad, ["x/Cargo.toml:4"], "{section}");
        }
        let renamed = "[dependencies]\nstore = { package = \"larder-pool\" }\n";
        assert_eq!(of("larder-cpu", renamed), ["x/Cargo.toml:4"]);
        assert_eq!(
            of("larder", "[dependencies]\nxtask = {}\n"),
            ["x/Cargo.toml:4"]
        );
    }

    #[test]
    fn every_crate_has_a_place() {
        assert_eq!(of("larder-other", ""), ["x/Cargo.toml:2"]);
        let fuzz = "[workspace]\n[dependencies]\nlarder-pool = { path = \"..\" }\n";
        assert_eq!(of("larder-fuzz", fuzz), [""; 0]);
    }
}
