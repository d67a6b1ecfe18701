//! No globals that change: clocks, metrics, caches and registries are arguments.

use super::finding::Finding;
use super::source::{Kind, Source};
use super::tree::Tree;

/// Types that make a `static` changeable; atomics are found by their first word.
const CELLS: [&str; 9] = [
    "Cell",
    "LazyCell",
    "LazyLock",
    "Mutex",
    "OnceCell",
    "OnceLock",
    "RefCell",
    "RwLock",
    "UnsafeCell",
];
const MACROS: [&str; 2] = ["lazy_static", "thread_local"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        for (at, token) in file
            .tokens
            .iter()
            .enumerate()
            .filter(|(_, t)| t.kind == Kind::Ident)
        {
            let line = token.lines.0;
            let what = if token.text == "static" {
                of_static(file, at)
            } else {
                of_macro(file, at)
            };
            if let Some(what) = what.filter(|_| !file.is_test(line)) {
                let instead = "make it a field and pass it through the constructor";
                findings.push(Finding::new(&file.path, line, what, instead));
            }
        }
    }
    findings
}

fn of_static(file: &Source, at: usize) -> Option<String> {
    let rest = &file.tokens[at + 1..];
    let name = rest.first()?;
    if name.text == "mut" {
        return Some(format!("static mut {}", rest.get(1)?.text));
    }
    let mut kind = rest
        .iter()
        .skip(1)
        .take_while(|token| !matches!(&*token.text, "=" | ";"));
    let cell =
        kind.find(|token| CELLS.contains(&&*token.text) || token.text.starts_with("Atomic"))?;
    Some(format!(
        "static {} is a {} that anyone can change",
        name.text, cell.text
    ))
}

fn of_macro(file: &Source, at: usize) -> Option<String> {
    let name = &file.tokens[at].text;
    let is_call = file.tokens.get(at + 1).is_some_and(|next| next.text == "!");
    (is_call && MACROS.contains(&name.as_str())).then(|| format!("{name}! makes a global"))
}

#[cfg(test)]
mod tests {
    use super::super::tree::places;
    use super::*;

    #[test]
    fn statics_do_not_change() {
        for good in [
            "static NAMES: [&str; 1] = [\"a\"];",
            "fn f(x: &'static OnceLock<u8>) {}",
            "struct S { lock: OnceLock<u8> }",
            "#[cfg(test)] mod tests { static N: AtomicU8 = AtomicU8::new(0); }",
        ] {
            assert_eq!(places(check, &[("x/src/lib.rs", good)]), [""; 0], "{good}");
        }
        for bad in [
            "static mut N: u8 = 0;",
            "static N: AtomicUsize = AtomicUsize::new(0);",
            "fn f() { static C: std::sync::OnceLock<u8> = OnceLock::new(); }",
            "thread_local! { static X: u8 = 0; }",
            "lazy_static! { static ref X: u8 = 0; }",
        ] {
            assert_eq!(
                places(check, &[("x/src/lib.rs", bad)]),
                ["x/src/lib.rs:1"],
                "{bad}"
            );
        }
    }
}
