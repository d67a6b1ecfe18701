//! Each use of unsafe is argued: a `SAFETY:` comment above a block, an impl or an extern block, a
//! `# Safety` section on a function or trait. Clippy asks for the comments too, but not in macros.

use syn::visit::{self, Visit};

use super::finding::Finding;
use super::source::{Kind, Source};
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        check_comments(file, &mut findings);
        if let Some(syntax) = &file.syntax {
            let mut sections = Sections {
                path: &file.path,
                findings: &mut findings,
            };
            sections.visit_file(syntax);
        }
    }
    findings
}

fn check_comments(file: &Source, findings: &mut Vec<Finding>) {
    let lines: Vec<&str> = file.text.lines().collect();
    for at in file.find("unsafe") {
        let Some(next) = file.tokens.get(at + 1) else {
            continue;
        };
        let what = match next.text.as_str() {
            "{" => "an unsafe block",
            "impl" => "an unsafe impl",
            "extern" if !is_function(file, at) => "an unsafe extern block",
            _ => continue,
        };
        let line = file.tokens[at].lines.0;
        if !has_argument(&lines, line - 1) {
            let what = format!("{what} without its proof");
            let instead = "write `// SAFETY:` directly above: the invariant and who upholds it";
            findings.push(Finding::new(&file.path, line, what, instead));
        }
    }
}

/// `unsafe extern "C" fn`, the name of the convention being optional.
fn is_function(file: &Source, at: usize) -> bool {
    let rest = file.tokens[at + 2..]
        .iter()
        .find(|token| token.kind != Kind::Literal);
    rest.is_some_and(|token| token.text == "fn")
}

/// Whether a `SAFETY:` comment stands in line `at` or above the statement that reaches it.
fn has_argument(lines: &[&str], at: usize) -> bool {
    const MARK: &str = "SAFETY:";
    if lines[at]
        .split_once("unsafe")
        .is_some_and(|(before, _)| before.contains(MARK))
    {
        return true;
    }
    let mut above = lines[..at].iter().rev().map(|line| line.trim()).peekable();
    // Attributes and the first lines of a statement that was broken may stand between.
    while above
        .next_if(|line| is_attribute(line) || is_unfinished(line))
        .is_some()
    {}
    above
        .take_while(|line| line.starts_with("//"))
        .any(|line| line.contains(MARK))
}

fn is_attribute(line: &str) -> bool {
    line.starts_with("#[") || line.ends_with(")]")
}

fn is_unfinished(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("//") && !line.ends_with([';', '{', '}', ','])
}

struct Sections<'a> {
    path: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Sections<'_> {
    fn require(&mut self, attributes: &[syn::Attribute], line: usize, what: &str) {
        let is_section = |attribute: &syn::Attribute| match &attribute.meta {
            syn::Meta::NameValue(doc) if doc.path.is_ident("doc") => {
                matches!(&doc.value, syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. })
                    if text.value().contains("# Safety"))
            }
            _ => false,
        };
        if !attributes.iter().any(is_section) {
            let instead = "add a `# Safety` section with the caller's duties";
            self.findings
                .push(Finding::new(self.path, line, what, instead));
        }
    }

    fn require_of_function(&mut self, attributes: &[syn::Attribute], signature: &syn::Signature) {
        if let Some(unsafety) = signature.unsafety {
            let what = format!("unsafe fn {} without its contract", signature.ident);
            self.require(attributes, unsafety.span.start().line, &what);
        }
    }
}

impl<'ast> Visit<'ast> for Sections<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.require_of_function(&item.attrs, &item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.require_of_function(&item.attrs, &item.sig);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if let Some(unsafety) = item.unsafety {
            let what = format!("unsafe trait {} without its contract", item.ident);
            self.require(&item.attrs, unsafety.span.start().line, &what);
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // The functions of a trait's impl have their contract at the trait.
        if item.trait_.is_none() {
            for inner in &item.items {
                if let syn::ImplItem::Fn(function) = inner {
                    self.require_of_function(&function.attrs, &function.sig);
                }
            }
        }
        visit::visit_item_impl(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn argued_uses_pass() {
        for good in [
            "fn f() {\n    // SAFETY: it is ours.\n    unsafe { g() }\n}",
            "fn f() {\n    // SAFETY: it is ours,\n    // and alive.\n    #[rustfmt::skip]\n    let x =\n        unsafe { g() };\n}",
            "// SAFETY: it owns its bytes.\nunsafe impl Send for X {}",
            "fn f() { /* SAFETY: ours. */ unsafe { g() } }",
            "/// # Safety\n/// The caller owns it.\npub unsafe fn f() {}",
            "/// # Safety\n/// Stable.\nunsafe trait T {\n /// # Safety\n /// Alive.\n unsafe fn f();\n}",
            "impl T for X { unsafe fn f() {} }",
            "type F = unsafe fn();\ntype G = unsafe extern \"C\" fn();",
            "// SAFETY: as in the header.\nunsafe extern \"C\" { fn f(); }",
        ] {
            assert_eq!(places(check, &[("x/src/lib.rs", good)]), [""; 0], "{good}");
        }
    }

    #[test]
    fn bare_uses_are_reported() {
        for bad in [
            "\nunsafe impl Send for X {}",
            "fn f() {\n    unsafe { g() } }",
            "// SAFETY: far away.\n\nunsafe impl Send for X {}",
            "// SAFETY: of the first.\nunsafe impl Send for X {}\nunsafe impl Sync for X {}",
            "/// No section.\npub unsafe fn f() {}",
            "impl X {\n unsafe fn f() {} }",
            "\nunsafe trait T {}",
            "macro_rules! m { () => {\n unsafe { g() } } }",
            "\nunsafe extern \"C\" { fn f(); }",
        ] {
            let last = if bad.starts_with("// SAFETY") { 3 } else { 2 };
            let want = [format!("x/src/lib.rs:{last}")];
            assert_eq!(places(check, &[("x/src/lib.rs", bad)]), want, "{bad}");
        }
    }
}
