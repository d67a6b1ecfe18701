//! Arrows between the modules of a crate: a module may use those declared above it, never those
//! below, at every level of the tree; so no cycle can arise between siblings.
//!
//! Parent and child may use each other: they are one thing in several files. Test modules may
//! use everything. Where only the order is wrong, the finding names one that fits.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::module_uses::{Arrow, arrows};
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut by_parent: BTreeMap<(String, Vec<String>), Vec<Arrow>> = BTreeMap::new();
    for arrow in arrows(tree) {
        let parent = (arrow.root.clone(), arrow.parent.clone());
        by_parent.entry(parent).or_default().push(arrow);
    }
    let mut findings = Vec::new();
    for ((root, parent), arrows) in &by_parent {
        let declared = tree.modules.children(root, parent);
        let place = |name: &String| declared.iter().position(|other| other == name);
        let wrong: Vec<&Arrow> = arrows
            .iter()
            .filter(|arrow| place(&arrow.to) > place(&arrow.from))
            .collect();
        let Some(first) = wrong.first() else { continue };
        match reading_order(declared, arrows) {
            Ok(order) => {
                let what = format!(
                    "modules of {} are not in reading order: {} uses {} below it, and {} more",
                    name_of(root, parent),
                    first.from,
                    first.to,
                    wrong.len() - 1
                );
                let instead = format!("declare them as: {}", order.join(" "));
                findings.push(Finding::new(&first.path, first.line, what, instead));
            }
            Err(cycle) => {
                let is_in =
                    |arrow: &&&Arrow| cycle.contains(&arrow.from) && cycle.contains(&arrow.to);
                for arrow in wrong.iter().filter(is_in) {
                    let what = format!("module {} uses {} below it", arrow.from, arrow.to);
                    let instead = format!(
                        "break the cycle among {}: move what both need above both",
                        cycle.join(" ")
                    );
                    findings.push(Finding::new(&arrow.path, arrow.line, what, instead));
                }
            }
        }
    }
    findings
}

fn name_of(root: &str, parent: &[String]) -> String {
    if parent.is_empty() {
        root.to_owned()
    } else {
        parent.join("::")
    }
}

/// An order in which every arrow points up, as close to the declared one as it gets; or the
/// modules that use each other in a cycle.
fn reading_order(declared: &[String], arrows: &[Arrow]) -> Result<Vec<String>, Vec<String>> {
    let mut left: Vec<&String> = declared.iter().collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let is_free = |name: &&String| {
            arrows
                .iter()
                .all(|arrow| arrow.from != **name || !left.contains(&&arrow.to))
        };
        let Some(at) = left.iter().position(is_free) else {
            return Err(cycle_in(left, arrows));
        };
        order.push(left.remove(at).clone());
    }
    Ok(order)
}

/// Of modules that all wait for another, those that another waits for too.
fn cycle_in(mut left: Vec<&String>, arrows: &[Arrow]) -> Vec<String> {
    loop {
        let is_used = |name: &String| {
            arrows
                .iter()
                .any(|arrow| arrow.to == *name && left.contains(&&arrow.from))
        };
        let used: Vec<&String> = left.iter().copied().filter(|name| is_used(name)).collect();
        if used.len() == left.len() {
            return left.into_iter().cloned().collect();
        }
        left = used;
    }
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

    #[test]
    fn the_order_that_fits_is_named() {
        let of = |b: &str, c: &str| {
            let tree = Tree::fixture(&[
                ("x/src/lib.rs", "mod a; mod b; mod c; mod d;"),
                ("x/src/a.rs", ""),
                ("x/src/b.rs", b),
                ("x/src/c.rs", c),
                ("x/src/d.rs", "use crate::b::X;"),
            ]);
            check(&tree)
                .into_iter()
                .map(|finding| finding.instead)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("use crate::{c, d::Y};", "")[0], CYCLE);
        assert_eq!(of("use crate::c;", ""), ["declare them as: a c b d"]);
        assert_eq!(of("", "use crate::d;"), ["declare them as: a b d c"]);
    }

    const CYCLE: &str = "break the cycle among b d: move what both need above both";
}
