//! The module trees of all targets: which file is which module, and in what order modules are
//! declared.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Kind, Source};

/// A compiled file: the module that it is, in the target that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Path of the target's root file.
    pub(crate) root: String,
    /// Names from the root, empty for the root itself.
    pub(crate) module: Vec<String>,
    pub(crate) path: String,
    pub(crate) is_test: bool,
}

/// A module declaration inside a file, with or without a body.
#[derive(Debug)]
pub(crate) struct Declaration {
    /// Names from the file's own module, this one last.
    pub(crate) names: Vec<String>,
    /// Index of the name's token.
    pub(crate) at: usize,
    pub(crate) is_test: bool,
    is_inline: bool,
    /// Value of a `#[path]` attribute.
    given_path: Option<String>,
}

/// Module trees of every target of the workspace.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    pub(crate) units: Vec<Unit>,
    /// Children of a module (by root file and names) in the order of their declarations.
    children: BTreeMap<(String, Vec<String>), Vec<String>>,
    reached: BTreeSet<String>,
}

impl Modules {
    /// Adds the tree under the root file `root`.
    pub(crate) fn add_target<'a>(
        &mut self,
        root: &str,
        is_test: bool,
        file: &impl Fn(&str) -> Option<&'a Source>,
    ) {
        let unit = Unit {
            root: root.to_owned(),
            module: Vec::new(),
            path: root.to_owned(),
            is_test,
        };
        let mut open = vec![unit];
        while let Some(unit) = open.pop() {
            let Some(source) = file(&unit.path) else {
                continue;
            };
            self.reached.insert(unit.path.clone());
            self.reached.extend(included(source));
            for declaration in declarations(source) {
                let module = [unit.module.as_slice(), &declaration.names].concat();
                let (name, parent) = module.split_last().expect("a declaration has a name");
                let key = (unit.root.clone(), parent.to_vec());
                self.children.entry(key).or_default().push(name.clone());
                let paths = paths_of(&unit, &declaration);
                if let Some(path) = paths.into_iter().find(|path| file(path).is_some()) {
                    let is_test = unit.is_test || declaration.is_test;
                    open.push(Unit {
                        root: unit.root.clone(),
                        module,
                        path,
                        is_test,
                    });
                }
            }
            self.units.push(unit);
        }
    }

    pub(crate) fn reaches(&self, path: &str) -> bool {
        self.reached.contains(path)
    }

    /// Children of a module in reading order.
    pub(crate) fn children(&self, root: &str, module: &[String]) -> &[String] {
        self.children
            .get(&(root.to_owned(), module.to_vec()))
            .map_or(&[], Vec::as_slice)
    }
}

/// All modules that `source` declares, nested ones after their parent.
pub(crate) fn declarations(source: &Source) -> Vec<Declaration> {
    let mut declarations: Vec<Declaration> = Vec::new();
    // Open inline modules: name and index of the closing brace.
    let mut inside: Vec<(String, usize)> = Vec::new();
    for at in source.find("mod") {
        inside.retain(|(_, close)| *close > at);
        let [name, next] = [1, 2].map(|step| source.tokens.get(at + step));
        let (Some(name), Some(next)) = (name, next) else {
            continue;
        };
        if name.kind != Kind::Ident || !matches!(next.text.as_str(), ";" | "{") {
            continue;
        }
        let names = inside
            .iter()
            .map(|(name, _)| name.clone())
            .chain([name.text.clone()]);
        let line = name.lines.0;
        declarations.push(Declaration {
            names: names.collect(),
            at: at + 1,
            is_test: source.is_for_tests(at) || source.is_test(line),
            is_inline: next.text == "{",
            given_path: given_path(source, at),
        });
        if next.text == "{" {
            inside.push((name.text.clone(), next.close));
        }
    }
    declarations
}

fn given_path(source: &Source, at: usize) -> Option<String> {
    source
        .attributes_before(at)
        .iter()
        .find_map(|attribute| match attribute {
            [name, _, value] if name.text == "path" => {
                Some(value.text.trim_matches('"').to_owned())
            }
            _ => None,
        })
}

/// Where the file of a declaration may be, none for one with a body.
fn paths_of(unit: &Unit, declaration: &Declaration) -> Vec<String> {
    if declaration.is_inline {
        return Vec::new();
    }
    let (folder, file) = unit.path.rsplit_once('/').unwrap_or(("", &unit.path));
    if let Some(path) = &declaration.given_path {
        return vec![join(folder, path)];
    }
    let stem = file.trim_end_matches(".rs");
    let owns_folder = unit.module.is_empty() || stem == "mod";
    let base = if owns_folder {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    let path = join(&base, &declaration.names.join("/"));
    vec![format!("{path}.rs"), format!("{path}/mod.rs")]
}

/// Files that `include!` names with a plain string.
fn included(source: &Source) -> Vec<String> {
    let folder = source
        .path
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    let names = source
        .find("include ! (")
        .filter_map(|at| source.tokens.get(at + 3));
    names
        .filter(|token| token.kind == Kind::Literal)
        .map(|token| join(folder, token.text.trim_matches('"')))
        .collect()
}

/// Joins two relative paths and resolves `.` and `..`.
pub(crate) fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;

    #[test]
    fn files_become_modules_in_reading_order() {
        let tree = Tree::fixture(&[
            (
                "a/src/lib.rs",
                "mod z;\nmod b { mod c; }\n#[cfg(test)] mod tests;",
            ),
            ("a/src/z.rs", "#[path = \"../odd.rs\"] mod odd; mod sub;"),
            ("a/src/z/sub.rs", ""),
            ("a/odd.rs", ""),
            ("a/src/b/c.rs", ""),
            ("a/src/tests.rs", ""),
        ]);
        let mut units: Vec<_> = tree
            .modules
            .units
            .iter()
            .map(|u| (u.module.join("."), &*u.path, u.is_test))
            .collect();
        units.sort();
        let want = [
            (String::new(), "a/src/lib.rs", false),
            ("b.c".to_owned(), "a/src/b/c.rs", false),
            ("tests".to_owned(), "a/src/tests.rs", true),
            ("z".to_owned(), "a/src/z.rs", false),
            ("z.odd".to_owned(), "a/odd.rs", false),
            ("z.sub".to_owned(), "a/src/z/sub.rs", false),
        ];
        assert_eq!(units, want);
        assert_eq!(
            tree.modules.children("a/src/lib.rs", &[]),
            ["z", "b", "tests"]
        );
        assert!(
            tree.file("a/src/tests.rs")
                .is_some_and(|file| file.is_test(1))
        );
    }
}
