//! Sizes: a file has at most 500 lines, an inline test module 150, a function 70.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::finding::Finding;
use super::source::Source;
use super::tree::Tree;

/// Lines of a file, without its inline tests.
const FILE_LINES_MAX: usize = 500;
const INLINE_TEST_LINES_MAX: usize = 150;
/// Lines of a function from `fn` to the closing brace.
const FUNCTION_LINES_MAX: usize = 70;

pub(crate) fn check_files(tree: &Tree) -> Vec<Finding> {
    let too_long = |file: &Source| {
        let tests: usize = file
            .test_lines
            .iter()
            .map(|lines| lines.clone().count())
            .sum();
        let lines = file.text.lines().count() - tests;
        let what = format!("{lines} lines without tests, {FILE_LINES_MAX} is the limit");
        let instead = "split it by noun, then by life cycle";
        let finding = Finding::new(&file.path, FILE_LINES_MAX + 1, what, instead);
        (lines > FILE_LINES_MAX).then(|| finding.measuring(lines))
    };
    tree.rust_files().filter_map(too_long).collect()
}

pub(crate) fn check_inline_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        for lines in &file.test_lines {
            let count = lines.clone().count();
            if count > INLINE_TEST_LINES_MAX {
                let what =
                    format!("{count} lines of inline tests, {INLINE_TEST_LINES_MAX} is the limit");
                let own = file.path.trim_end_matches(".rs");
                let instead = format!("move them to {own}/tests.rs");
                let finding = Finding::new(&file.path, *lines.start(), what, instead);
                findings.push(finding.measuring(count));
            }
        }
    }
    findings
}

pub(crate) fn check_functions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        if let Some(syntax) = &file.syntax {
            let mut functions = Functions {
                path: &file.path,
                findings: &mut findings,
            };
            functions.visit_file(syntax);
        }
    }
    findings
}

struct Functions<'a> {
    path: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let first = signature.span().start().line;
        let lines = body.span().end().line + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            let name = signature.ident.to_string();
            let what =
                format!("function {name} has {lines} lines, {FUNCTION_LINES_MAX} is the limit");
            let instead = "let it branch and move the leaves into functions of their own";
            let finding = Finding::new(self.path, first, what, instead);
            self.findings.push(finding.of_item(&name).measuring(lines));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.measure(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    fn lines(count: usize) -> String {
        "const _: () = ();\n".repeat(count)
    }

    #[test]
    fn files_count_without_their_tests() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(100));
        let good = lines(499) + &tests;
        assert_eq!(places(check_files, &[("a/src/lib.rs", &good)]), [""; 0]);
        let bad = lines(501) + &tests;
        assert_eq!(
            places(check_files, &[("a/src/lib.rs", &bad)]),
            ["a/src/lib.rs:501"]
        );
    }

    #[test]
    fn inline_tests_are_short() {
        let tests = |count| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(count));
        assert_eq!(
            places(check_inline_tests, &[("a/src/lib.rs", &tests(148))]),
            [""; 0]
        );
        let bad = places(check_inline_tests, &[("a/src/lib.rs", &tests(149))]);
        assert_eq!(bad, ["a/src/lib.rs:2"]);
    }

    #[test]
    fn functions_are_short_wherever_they_stand() {
        let long = format!("fn f() {{\n{}}}\n", "    ();\n".repeat(69));
        let short = format!("fn f() {{\n{}}}\n", "    ();\n".repeat(68));
        for (before, after) in [("", ""), ("impl A { ", "}"), ("trait A { ", "}")] {
            let text = |body: &str| format!("{before}{body}{after}");
            assert_eq!(
                places(check_functions, &[("a/src/lib.rs", &text(&short))]),
                [""; 0]
            );
            let bad = places(check_functions, &[("a/src/lib.rs", &text(&long))]);
            assert_eq!(bad, ["a/src/lib.rs:1"]);
        }
    }
}
