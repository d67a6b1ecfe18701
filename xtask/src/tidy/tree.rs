//! The checkout in memory: its files, its crates and their module trees.

use std::path::Path;

use anyhow::{Context, Result};

use super::modules::{Modules, join};
use super::source::Source;

/// Everything that the rules look at.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Text files, sorted by path.
    pub(crate) files: Vec<Source>,
    /// Members of the workspace, and crates that are a workspace of their own.
    pub(crate) crates: Vec<Crate>,
    pub(crate) modules: Modules,
}

/// A crate of ours.
#[derive(Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Folder, relative to the workspace root; empty for the root itself.
    pub(crate) folder: String,
    pub(crate) manifest: toml::Table,
    pub(crate) targets: Vec<Target>,
}

/// Something that cargo compiles, by its root file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: String,
    pub(crate) kind: TargetKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    Lib,
    Bin,
    Example,
    Test,
    Bench,
    Build,
}

/// Name of the table in a manifest, the folder where cargo looks, and what it finds there.
const TARGET_FOLDERS: [(&str, &str, TargetKind); 4] = [
    ("bin", "src/bin", TargetKind::Bin),
    ("example", "examples", TargetKind::Example),
    ("test", "tests", TargetKind::Test),
    ("bench", "benches", TargetKind::Bench),
];

impl Tree {
    /// Reads all files that are text.
    pub(crate) fn read(root: &Path, paths: &[String]) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            let bytes = std::fs::read(root.join(path)).with_context(|| format!("read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(Source::new(path, text));
            }
        }
        Self::new(files)
    }

    fn new(files: Vec<Source>) -> Result<Self> {
        let mut tree = Self {
            files,
            crates: Vec::new(),
            modules: Modules::default(),
        };
        let manifests = tree
            .files
            .iter()
            .filter(|file| file.path == "Cargo.toml" || file.path.ends_with("/Cargo.toml"));
        let mut crates = Vec::new();
        for file in manifests {
            let manifest: toml::Table = file
                .text
                .parse()
                .with_context(|| format!("parse {}", file.path))?;
            let folder = file
                .path
                .trim_end_matches("Cargo.toml")
                .trim_end_matches('/');
            if let Some(name) = manifest
                .get("package")
                .and_then(|package| package.get("name"))
            {
                let name = name.as_str().unwrap_or_default().to_owned();
                let targets = tree.targets(folder, &manifest);
                crates.push(Crate {
                    name,
                    folder: folder.to_owned(),
                    manifest,
                    targets,
                });
            }
        }
        tree.crates = crates;
        tree.add_modules();
        Ok(tree)
    }

    fn add_modules(&mut self) {
        let mut modules = Modules::default();
        for target in self.crates.iter().flat_map(|member| &member.targets) {
            let is_test = matches!(target.kind, TargetKind::Test | TargetKind::Bench);
            modules.add_target(&target.path, is_test, &|path| self.file(path));
        }
        // A file that both a test and another target contain is no test file.
        for file in &mut self.files {
            let mut units = modules
                .units
                .iter()
                .filter(|unit| unit.path == file.path)
                .peekable();
            file.is_test_file = units.peek().is_some() && units.all(|unit| unit.is_test);
        }
        self.modules = modules;
    }

    /// Targets that cargo finds by itself and those that the manifest names.
    fn targets(&self, folder: &str, manifest: &toml::Table) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut add = |path: String, kind| {
            let target = Target { path, kind };
            if self.file(&target.path).is_some() && !targets.contains(&target) {
                targets.push(target);
            }
        };
        let lib = manifest
            .get("lib")
            .and_then(|lib| lib.get("path")?.as_str());
        add(join(folder, lib.unwrap_or("src/lib.rs")), TargetKind::Lib);
        add(join(folder, "src/main.rs"), TargetKind::Bin);
        add(join(folder, "build.rs"), TargetKind::Build);
        for (table, place, kind) in TARGET_FOLDERS {
            let named = manifest
                .get(table)
                .and_then(toml::Value::as_array)
                .into_iter()
                .flatten();
            for path in named.filter_map(|target| target.get("path")?.as_str()) {
                add(join(folder, path), kind);
            }
            let place = format!("{}/", join(folder, place));
            for file in &self.files {
                let rest = file
                    .path
                    .strip_prefix(&place)
                    .map(|rest| rest.split_once('/'));
                if matches!(rest, Some(None | Some((_, "main.rs")))) && file.is_rust() {
                    add(file.path.clone(), kind);
                }
            }
        }
        targets
    }

    pub(crate) fn file(&self, path: &str) -> Option<&Source> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path))
            .ok()?;
        Some(&self.files[at])
    }

    pub(crate) fn rust_files(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The crate that a file belongs to: the one with the innermost folder.
    pub(crate) fn crate_of(&self, path: &str) -> Option<&Crate> {
        let holds = |member: &&Crate| member.folder.is_empty() || is_inside(path, &member.folder);
        self.crates
            .iter()
            .filter(holds)
            .max_by_key(|member| member.folder.len())
    }

    /// Rust files of one crate, without those of crates nested in its folder.
    pub(crate) fn files_of<'a>(&'a self, member: &'a Crate) -> impl Iterator<Item = &'a Source> {
        self.rust_files().filter(|file| {
            self.crate_of(&file.path)
                .is_some_and(|owner| owner.folder == member.folder)
        })
    }

    /// A tree of files given by path and text.
    #[cfg(test)]
    pub(crate) fn fixture(files: &[(&str, &str)]) -> Self {
        let mut all: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source::new(path, (*text).to_owned()))
            .collect();
        // A crate needs a manifest to be one; give it the plainest where the fixture has none.
        for root in ["src/lib.rs", "src/main.rs"] {
            let folders = files.iter().filter_map(|(path, _)| path.strip_suffix(root));
            for folder in folders {
                let path = format!("{folder}Cargo.toml");
                if all.iter().all(|file| file.path != path) {
                    let name = folder.trim_end_matches('/').replace('/', "-");
                    let text = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n");
                    all.push(Source::new(&path, text));
                }
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Self::new(all).expect("the manifests of the fixture parse")
    }
}

impl Crate {
    pub(crate) fn manifest_path(&self) -> String {
        join(&self.folder, "Cargo.toml")
    }

    /// Whether the crate belongs to our workspace; fuzz targets are a workspace of their own.
    pub(crate) fn is_member(&self) -> bool {
        self.folder.is_empty() || !self.manifest.contains_key("workspace")
    }

    /// Dependencies of every kind: the table they stand in, their key and what they say.
    pub(crate) fn dependencies(&self) -> Vec<(String, &String, &toml::Value)> {
        const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
        let targets = self.manifest.get("target").and_then(toml::Value::as_table);
        let per_target = targets
            .into_iter()
            .flatten()
            .filter_map(|(_, table)| table.as_table());
        let mut all = Vec::new();
        for table in per_target.chain([&self.manifest]) {
            for kind in KINDS {
                let dependencies = table.get(kind).and_then(toml::Value::as_table);
                for (key, value) in dependencies.into_iter().flatten() {
                    all.push((kind.to_owned(), key, value));
                }
            }
        }
        all
    }
}

/// Whether `path` lies in `folder` or below.
pub(crate) fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// First line of `text` whose trimmed start is `word`, as a key or a value; 1 if there is none.
pub(crate) fn line_of(text: &str, word: &str) -> usize {
    let is_key = |line: &str| {
        let rest = line.trim_start().strip_prefix(word);
        rest.is_some_and(|rest| {
            !rest.starts_with(|c: char| c.is_alphanumeric() || "-_".contains(c))
        })
    };
    text.lines().position(is_key).map_or(1, |at| at + 1)
}

/// Findings of `check` over a fixture, as `path:line`.
#[cfg(test)]
pub(crate) fn places(
    check: fn(&Tree) -> Vec<super::finding::Finding>,
    files: &[(&str, &str)],
) -> Vec<String> {
    let findings = check(&Tree::fixture(files));
    findings
        .iter()
        .map(|finding| format!("{}:{}", finding.path, finding.line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_cargo() {
        let tree = Tree::fixture(&[
            (
                "a/Cargo.toml",
                "[package]\nname = \"a\"\n[[bin]]\nname = \"f\"\npath = \"f/x.rs\"\n",
            ),
            ("a/src/lib.rs", ""),
            ("a/b/src/lib.rs", ""),
            ("a/f/x.rs", ""),
            ("a/tests/one.rs", ""),
            ("a/tests/two/main.rs", ""),
            ("a/tests/two/other.rs", ""),
        ]);
        let a = tree.crate_of("a/f/x.rs").expect("a crate");
        let paths: Vec<&str> = a
            .targets
            .iter()
            .map(|target| target.path.as_str())
            .collect();
        let want = [
            "a/src/lib.rs",
            "a/f/x.rs",
            "a/tests/one.rs",
            "a/tests/two/main.rs",
        ];
        assert_eq!(paths, want);
        assert_eq!(
            tree.crate_of("a/b/src/lib.rs").map(|c| c.name.as_str()),
            Some("a-b")
        );
    }

    #[test]
    fn lines_are_found_by_whole_words() {
        assert_eq!(
            line_of("[x]\nnix-sys = 1\nnix.workspace = true\n", "nix"),
            3
        );
    }
}
