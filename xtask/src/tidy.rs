//! House rules that no compiler checks, each in a file of its own.
//!
//! Key types: [`tree::Tree`] is the checkout in memory, a [`Rule`] turns it into findings, and
//! `xtask/tidy-exempt.toml` lists what is let through and why. Rules look at tokens, not at
//! lines, so strings and comments cannot fool them; macro bodies count too.

mod finding;
mod source;
mod modules;
mod tree;
mod exempt;

mod module_uses;

mod crate_arrows;
mod documents;
mod environment;
mod globals;
mod local_paths;
mod module_arrows;
mod names;
mod notes;
mod orphans;
mod parses;
mod prints;
mod safety;
mod sizes;
mod suppressions;
mod test_form;
mod unsafe_fence;
mod unused_deps;
mod versions;
mod width;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::checkout;
use finding::Finding;
use tree::Tree;

/// A check over the whole checkout.
struct Rule {
    name: &'static str,
    /// Whether `tidy-exempt.toml` may let a place through.
    exemptable: bool,
    check: fn(&Tree) -> Vec<Finding>,
}

const fn strict(name: &'static str, check: fn(&Tree) -> Vec<Finding>) -> Rule {
    Rule {
        name,
        exemptable: false,
        check,
    }
}

const fn exemptable(name: &'static str, check: fn(&Tree) -> Vec<Finding>) -> Rule {
    Rule {
        name,
        exemptable: true,
        check,
    }
}

const RULES: &[Rule] = &[
    strict("parses", parses::check),
    strict("crate-arrows", crate_arrows::check),
    exemptable("module-arrows", module_arrows::check),
    strict("versions", versions::check),
    exemptable("unused-deps", unused_deps::check),
    exemptable("orphans", orphans::check),
    strict("unsafe-fence", unsafe_fence::check),
    strict("safety", safety::check),
    exemptable("file-size", sizes::check_files),
    exemptable("test-size", sizes::check_inline_tests),
    exemptable("function-size", sizes::check_functions),
    exemptable("width", width::check),
    exemptable("environment", environment::check),
    exemptable("prints", prints::check),
    exemptable("globals", globals::check),
    exemptable("names", names::check),
    exemptable("test-form", test_form::check),
    strict("notes", notes::check),
    exemptable("suppressions", suppressions::check),
    strict("documents", documents::check),
    exemptable("local-paths", local_paths::check),
];

/// Checks the checkout and prints every finding; fails if there is one.
pub(crate) fn run() -> Result<()> {
    let root = checkout::root()?;
    let tree = Tree::read(&root, &checkout::files(&root)?)?;
    let findings = check(&root, &tree)?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} found", findings.len());
    }
    println!(
        "tidy: {} files, {} rules, nothing found",
        tree.files.len(),
        RULES.len()
    );
    Ok(())
}

/// All findings that no exemption lets through, in order of path and line.
fn check(root: &Path, tree: &Tree) -> Result<Vec<Finding>> {
    let path = root.join(exempt::FILE);
    let text = if path.exists() {
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?
    } else {
        String::new()
    };
    let exemptions = exempt::Exemptions::parse(&text)?;
    let mut findings = Vec::new();
    for rule in RULES {
        findings.extend(exemptions.filter(rule.name, rule.exemptable, (rule.check)(tree)));
    }
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    findings.extend(exemptions.unknown_rules(&names));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Ok(findings)
}
