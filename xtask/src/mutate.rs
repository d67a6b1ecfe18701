//! Mutations: a copy of the checkout in which each one is behind a switch, built once.
//!
//! The code itself knows nothing of them. An edit names a file, a text that stands there exactly
//! once, and what replaces it; a text that is gone or stands twice is an error, so the list keeps
//! up with the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::checkout;

/// The list, and the word in it that becomes the switch.
const LIST: &str = "xtask/mutants.toml";
const SWITCH: &str = "MUTANT";

/// The module behind the switch.
const MODULE: &str = "cxl-pool/sys/src/mutant.rs";

/// What makes the switch part of the build: file, text, replacement.
const HOOKS: [[&str; 3]; 2] = [
    [
        "cxl-pool/sys/src/lib.rs",
        "mod wake;\n",
        "mod wake;\npub mod mutant;\n",
    ],
    [
        "engine/tests/simulation/main.rs",
        "fn switch_on(_name: &str) -> bool {\n    false\n}",
        "fn switch_on(name: &str) -> bool {\n    larder_pool::sys::mutant::switch_on(name)\n}",
    ],
];

/// Crates that may be mutated, and the switch as they see it.
const CRATES: [[&str; 2]; 3] = [
    ["cxl-pool/sys/src/", "crate::mutant::is"],
    ["cxl-pool/src/", "larder_sys::mutant::is"],
    ["engine/src/", "larder_pool::sys::mutant::is"],
];

/// One edit of a mutation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    /// It is caught within so many seeds.
    pub(crate) seeds: u64,
    file: String,
    find: String,
    replace: String,
}

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

/// Every edit of the list.
pub(crate) fn list(root: &Path) -> Result<Vec<Mutant>> {
    let text = fs::read_to_string(root.join(LIST)).with_context(|| format!("read {LIST}"))?;
    let list: List = toml::from_str(&text).with_context(|| format!("read {LIST}"))?;
    Ok(list.mutant)
}

/// Makes or renews the mutated copy in `tree`.
pub(crate) fn make(root: &Path, tree: &Path, mutants: &[Mutant]) -> Result<()> {
    let mut edited: Vec<(PathBuf, String)> = Vec::new();
    for mutant in mutants {
        let switch = switch_of(mutant)?;
        let replace = mutant.replace.replace(SWITCH, &switch);
        let replace = replace.strip_prefix('\n').unwrap_or(&replace);
        let find = mutant.find.strip_prefix('\n').unwrap_or(&mutant.find);
        edit(root, &mut edited, &mutant.file, find, replace)
            .with_context(|| format!("mutation {}", mutant.name))?;
    }
    for [file, find, replace] in HOOKS {
        edit(root, &mut edited, file, find, replace).context("the switch of the mutations")?;
    }
    edited.push((PathBuf::from(MODULE), module(mutants)));
    let files = checkout::files(root)?;
    for file in &files {
        let file = Path::new(file);
        if !edited.iter().any(|(path, _)| path == file) {
            let bytes = fs::read(root.join(file)).with_context(|| file.display().to_string())?;
            write_changed(&tree.join(file), &bytes)?;
        }
    }
    for (file, text) in &edited {
        write_changed(&tree.join(file), text.as_bytes())?;
    }
    remove_others(tree, tree, &files)
}

fn switch_of(mutant: &Mutant) -> Result<String> {
    let found = CRATES
        .iter()
        .find(|[folder, _]| mutant.file.starts_with(folder));
    let [_, switch] = found.with_context(|| format!("{} is in no crate of {LIST}", mutant.file))?;
    Ok(format!("{switch}(\"{}\")", mutant.name))
}

/// Replaces a text that stands exactly once in a file.
fn edit(
    root: &Path,
    edited: &mut Vec<(PathBuf, String)>,
    file: &str,
    find: &str,
    replace: &str,
) -> Result<()> {
    let path = PathBuf::from(file);
    let before = edited.iter().position(|(other, _)| *other == path);
    let text = match before {
        Some(index) => edited.swap_remove(index).1,
        None => fs::read_to_string(root.join(file)).with_context(|| format!("read {file}"))?,
    };
    let count = text.matches(find).count();
    ensure!(
        count == 1,
        "its text stands {count} times in {file}, not once; change {LIST} with the code:\n{find}"
    );
    edited.push((path, text.replacen(find, replace, 1)));
    Ok(())
}

fn module(mutants: &[Mutant]) -> String {
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    format!(
        "//! The switch of the mutations; one of them is on, or none.\n\n\
         use std::sync::OnceLock;\n\n\
         const NAMES: &[&str] = &{names:?};\n\n\
         static ON: OnceLock<&'static str> = OnceLock::new();\n\n\
         pub fn is(name: &str) -> bool {{\n    ON.get().is_some_and(|on| *on == name)\n}}\n\n\
         pub fn switch_on(name: &str) -> bool {{\n    \
         let known = NAMES.iter().find(|known| **known == name);\n    \
         known.is_some_and(|known| ON.set(known).is_ok())\n}}\n",
        names = names.into_iter().collect::<Vec<_>>()
    )
}

/// Writes a file unless it holds that already: what does not change is not built again.
fn write_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .with_context(|| format!("write {}", path.display()))
}

/// Removes files that the checkout no longer has.
fn remove_others(tree: &Path, folder: &Path, files: &[String]) -> Result<()> {
    for entry in fs::read_dir(folder).context("list the copy")? {
        let path = entry.context("list the copy")?.path();
        if path.is_dir() {
            remove_others(tree, &path, files)?;
            continue;
        }
        let name = path.strip_prefix(tree).context("inside the copy")?;
        let name = name.to_string_lossy().into_owned();
        if name != MODULE && files.binary_search(&name).is_err() {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}
