//! Which module names which of its siblings: the arrows, as the sources draw them.

use super::modules::{Unit, declarations};
use super::source::{Kind, Source};
use super::tree::Tree;

/// An arrow between two modules with the same parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrow {
    /// Root file of the target.
    pub(crate) root: String,
    /// Names of the parent from the root.
    pub(crate) parent: Vec<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Where it is written.
    pub(crate) path: String,
    pub(crate) line: usize,
}

/// All arrows outside test code, file by file.
pub(crate) fn arrows(tree: &Tree) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for unit in tree.modules.units.iter().filter(|unit| !unit.is_test) {
        if let Some(file) = tree.file(&unit.path) {
            let facade = tree.file(&unit.root).map(exports).unwrap_or_default();
            for (line, from, path) in paths(unit, file) {
                arrows.extend(arrow(tree, unit, line, &from, &path, &facade));
            }
        }
    }
    arrows.dedup();
    arrows
}

/// Line, module and names of every path that begins with `crate`, `super` or `self`.
fn paths(unit: &Unit, file: &Source) -> Vec<(usize, Vec<String>, Vec<String>)> {
    let inline: Vec<_> = declarations(file)
        .into_iter()
        .filter_map(|declaration| {
            let brace = file.tokens.get(declaration.at + 1)?;
            (brace.text == "{").then_some((declaration.at..brace.close, declaration.names))
        })
        .collect();
    let mut found = Vec::new();
    for (at, token) in file.tokens.iter().enumerate() {
        let text = |at: usize| file.tokens.get(at).map_or("", |token| token.text.as_str());
        let starts_path = matches!(token.text.as_str(), "crate" | "super" | "self")
            && text(at + 1) == "::"
            && (at == 0 || text(at - 1) != "::");
        if !starts_path || file.is_test(token.lines.0) {
            continue;
        }
        let inner = inline.iter().rev().find(|(range, _)| range.contains(&at));
        let inner = inner.map_or(&[][..], |(_, names)| names.as_slice());
        let from = [unit.module.as_slice(), inner].concat();
        let expanded = expand(file, at).into_iter();
        found.extend(expanded.map(|path| (token.lines.0, from.clone(), path)));
    }
    found
}

/// The arrow that `path`, written in module `from`, draws; none inside one module.
fn arrow(
    tree: &Tree,
    unit: &Unit,
    line: usize,
    from: &[String],
    path: &[String],
    facade: &[Vec<String>],
) -> Option<Arrow> {
    let mut to = resolve(from, path)?;
    let is_module = |name: &String| tree.modules.children(&unit.root, &[]).contains(name);
    if let Some(name) = to.first().filter(|name| !is_module(name)) {
        // An item of the root: what it re-exports counts as use of the module that defines it.
        to = facade
            .iter()
            .find(|export| export.last() == Some(name))?
            .clone();
    }
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let (own, other) = (from.get(shared)?, to.get(shared)?);
    let siblings = tree.modules.children(&unit.root, &from[..shared]);
    siblings.contains(other).then(|| Arrow {
        root: unit.root.clone(),
        parent: from[..shared].to_vec(),
        from: own.clone(),
        to: other.clone(),
        path: unit.path.clone(),
        line,
    })
}

/// Names from the root of the crate that `path`, written in module `from`, stands for.
fn resolve(from: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut to = if path[0] == "crate" {
        Vec::new()
    } else {
        from.to_vec()
    };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => drop(to.pop()?),
            _ => to.push(name.clone()),
        }
    }
    Some(to)
}

/// All paths that begin at token `at`; a group in braces gives one path for each of its members.
fn expand(file: &Source, mut at: usize) -> Vec<Vec<String>> {
    let mut path = Vec::new();
    while let Some(token) = file
        .tokens
        .get(at)
        .filter(|token| token.kind == Kind::Ident)
    {
        path.push(token.text.clone());
        if file.tokens.get(at + 1).is_none_or(|next| next.text != "::") {
            break;
        }
        at += 2;
    }
    let Some(group) = file.tokens.get(at).filter(|token| token.text == "{") else {
        return vec![path];
    };
    let mut paths = Vec::new();
    let mut inner = at + 1;
    while inner < group.close {
        for rest in expand(file, inner) {
            paths.push([path.as_slice(), &rest].concat());
        }
        // On to the next comma of this group, over groups nested in it.
        while inner < group.close && file.tokens[inner].text != "," {
            inner = file.tokens[inner].close + 1;
        }
        inner += 1;
    }
    paths
}

/// Paths that the root file re-exports from its modules.
fn exports(root: &Source) -> Vec<Vec<String>> {
    let uses = root.find("pub use");
    let paths = uses.flat_map(|at| expand(root, at + 2));
    paths
        .map(|mut path| {
            path.retain(|name| !matches!(name.as_str(), "crate" | "self"));
            path
        })
        .filter(|path| path.len() > 1)
        .collect()
}
