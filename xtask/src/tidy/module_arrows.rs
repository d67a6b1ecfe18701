//! Arrows between the modules of a crate: a module may use those declared above it, never those
//! below, at every level of the tree; so no cycle can arise between siblings.
//!
//! Parent and child may use each other: they are one thing in several files. Test modules may
//! use everything.

use super::finding::Finding;
use super::modules::{Modules, Unit, declarations};
use super::source::{Kind, Source};
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for unit in tree.modules.units.iter().filter(|unit| !unit.is_test) {
        if let Some(file) = tree.file(&unit.path) {
            let facade = tree.file(&unit.root).map(exports).unwrap_or_default();
            check_file(&tree.modules, unit, file, &facade, &mut findings);
        }
    }
    findings.dedup();
    findings
}

fn check_file(
    modules: &Modules,
    unit: &Unit,
    file: &Source,
    facade: &[Vec<String>],
    findings: &mut Vec<Finding>,
) {
    let inline: Vec<_> = declarations(file)
        .into_iter()
        .filter_map(|declaration| {
            let brace = file
                .tokens
                .get(declaration.at + 1)
                .filter(|next| next.text == "{")?;
            Some((declaration.at, brace.close, declaration.names))
        })
        .collect();
    for (at, token) in file.tokens.iter().enumerate() {
        let starts_path = matches!(token.text.as_str(), "crate" | "super" | "self")
            && file
                .tokens
                .get(at + 1)
                .is_some_and(|next| next.text == "::")
            && at
                .checked_sub(1)
                .is_none_or(|before| file.tokens[before].text != "::");
        if !starts_path || file.is_test(token.lines.0) {
            continue;
        }
        let holds = |(start, end, _): &&(usize, usize, Vec<String>)| *start < at && at < *end;
        let inner = inline
            .iter()
            .rev()
            .find(holds)
            .map(|(.., names)| names.as_slice());
        let from = [unit.module.as_slice(), inner.unwrap_or_default()].concat();
        for path in expand(file, at) {
            if let Some((what, instead)) = wrong_arrow(modules, &unit.root, &from, &path, facade) {
                findings.push(Finding::new(&file.path, token.lines.0, what, instead));
            }
        }
    }
}

/// What is wrong with the module `from` naming `path`, if anything is.
fn wrong_arrow(
    modules: &Modules,
    root: &str,
    from: &[String],
    path: &[String],
    facade: &[Vec<String>],
) -> Option<(String, String)> {
    let to = resolve(from, path)?;
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let (own, other) = (from.get(shared)?, to.get(shared)?);
    let siblings = modules.children(root, &from[..shared]);
    let place = |name: &String| siblings.iter().position(|sibling| sibling == name);
    if let Some(other_at) = place(other) {
        return (other_at > place(own)?).then(|| {
            let what = format!("module {own} uses {other}, which is declared below it");
            let instead = "move the declaration up if the arrow is right, else turn it round";
            (what, instead.to_owned())
        });
    }
    let exported = facade.iter().find(|export| export.last() == Some(other));
    exported.filter(|_| shared == 0).map(|export| {
        let what = format!("crate::{other} hides which module is used");
        (
            what,
            format!("name its own module: crate::{}", export.join("::")),
        )
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

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    fn of(a: &str, b: &str, child: &str) -> Vec<String> {
        places(
            check,
            &[
                ("x/src/lib.rs", "mod a;\nmod b;\npub use b::Thing;\n"),
                ("x/src/a.rs", a),
                ("x/src/b.rs", b),
                ("x/src/b/child.rs", child),
            ],
        )
    }

    #[test]
    fn modules_use_those_above_and_their_own() {
        assert_eq!(
            of("", "mod child; use crate::a::X; use self::child::Y;", ""),
            [""; 0]
        );
        assert_eq!(
            of("", "mod child;", "use super::Z; use crate::{a, b::Q};"),
            [""; 0]
        );
        let tests = "#[cfg(test)]\nmod tests { use crate::b::X; }";
        assert_eq!(of(tests, "", ""), [""; 0]);
        assert_eq!(
            of("pub(crate) fn f() { self::g::<u8>(); }", "", ""),
            [""; 0]
        );
    }

    #[test]
    fn modules_never_use_those_below() {
        let bad = [
            "use crate::b::X;",
            "use super::b;",
            "use crate::{\n  c, b::{X, Y}};",
            "fn f() { m!(crate::b::x()); }",
            "mod inner { use super::super::b; }",
            "use crate::Thing;",
        ];
        for a in bad {
            assert_eq!(of(a, "", ""), ["x/src/a.rs:1"], "{a}");
        }
        let deep = of("", "mod child;\nmod later {}", "use super::later::X;");
        assert_eq!(deep, ["x/src/b/child.rs:1"]);
    }
}
