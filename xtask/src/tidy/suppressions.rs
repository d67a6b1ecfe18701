//! A lint is silenced by `expect`, which complains when it is no longer needed.

use super::finding::Finding;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        for at in file.find("#") {
            let is_inner = file.tokens.get(at + 1).is_some_and(|next| next.text == "!");
            let open = at + 1 + usize::from(is_inner);
            let Some(bracket) = file.tokens.get(open).filter(|token| token.text == "[") else {
                continue;
            };
            let inner = open + 1..bracket.close;
            if inner
                .into_iter()
                .any(|inner| file.matches(inner, "allow ("))
            {
                let instead = "write #[expect(lint, reason = \"...\")]";
                let what = "allow outlives its reason";
                findings.push(Finding::new(
                    &file.path,
                    file.tokens[at].lines.0,
                    what,
                    instead,
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn expect_is_the_only_way() {
        let good = "#[expect(dead_code, reason = \"allow (x)\")]\nfn f() { allow(1); }";
        assert_eq!(places(check, &[("x/src/lib.rs", good)]), [""; 0]);
        for bad in ["#[allow(x)]", "#![allow(x)]", "#[cfg_attr(test, allow(x))]"] {
            let text = format!("\n{bad}\nfn f() {{}}");
            assert_eq!(
                places(check, &[("x/src/lib.rs", &text)]),
                ["x/src/lib.rs:2"],
                "{bad}"
            );
        }
    }
}
