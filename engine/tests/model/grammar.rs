//! Parser of stories under `assets/stories/grammar.txt`, whose head describes its form.

use std::collections::HashMap;
use std::path::Path;

#[derive(Clone, Debug)]
enum Symbol {
    Text(String),
    Rule(String),
    Variable(String),
}

/// Alternatives by rule and by variable (with its `$`).
pub(crate) struct Grammar(HashMap<String, Vec<Vec<Symbol>>>);

fn symbols(mut text: &str) -> Vec<Symbol> {
    let mut out = Vec::new();
    while let Some(at) = text.find(['{', '$']) {
        if at > 0 {
            out.push(Symbol::Text(text[..at].to_owned()));
        }
        text = &text[at..];
        let len = 1 + text[1..]
            .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .unwrap_or(text.len() - 1);
        let name = &text[..len];
        if let Some(rule) = name.strip_prefix('{') {
            out.push(Symbol::Rule(rule.to_owned()));
            text = &text[len + 1..];
        } else {
            out.push(Symbol::Variable(name.to_owned()));
            text = &text[len..];
        }
    }
    if !text.is_empty() {
        out.push(Symbol::Text(text.to_owned()));
    }
    out
}

impl Grammar {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the grammar");
        let (mut rules, mut name) = (HashMap::<String, Vec<Vec<Symbol>>>::new(), String::new());
        for line in text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        {
            if line.starts_with(' ') {
                rules
                    .entry(name.clone())
                    .or_default()
                    .push(symbols(line.trim()));
            } else {
                line.trim().trim_end_matches(':').clone_into(&mut name);
            }
        }
        Self(rules)
    }

    /// Whether `text` is a story.
    pub(crate) fn parses(&self, text: &str) -> bool {
        self.matches(&[Symbol::Rule("story".to_owned())], text, &HashMap::new())
    }

    fn matches(&self, symbols: &[Symbol], text: &str, bound: &HashMap<String, String>) -> bool {
        let Some((first, rest)) = symbols.split_first() else {
            return text.is_empty();
        };
        let behind = |front: &[Symbol]| [front, rest].concat();
        match first {
            Symbol::Text(expected) => text
                .strip_prefix(expected.as_str())
                .is_some_and(|text| self.matches(rest, text, bound)),
            Symbol::Rule(name) => self.0[name]
                .iter()
                .any(|alternative| self.matches(&behind(alternative), text, bound)),
            Symbol::Variable(name) => match bound.get(name) {
                Some(value) => self.matches(&behind(&[Symbol::Text(value.clone())]), text, bound),
                None => self.0[name].iter().any(|alternative| {
                    let Some(Symbol::Text(value)) = alternative.first() else {
                        return false;
                    };
                    let mut now = bound.clone();
                    now.insert(name.clone(), value.clone());
                    self.matches(&behind(alternative), text, &now)
                }),
            },
        }
    }
}
