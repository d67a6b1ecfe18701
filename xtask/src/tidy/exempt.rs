//! `xtask/tidy-exempt.toml`: what is let through, how much of it, and why. The list only shrinks.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::finding::Finding;

pub(crate) const FILE: &str = "xtask/tidy-exempt.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    exempt: Vec<Entry>,
}

/// One place that may break one rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rule: String,
    path: String,
    /// Function or dependency, where the rule names one.
    item: Option<String>,
    /// What the rule measures there today: lines for sizes, number of findings elsewhere.
    size: usize,
    reason: String,
}

#[derive(Debug)]
pub(crate) struct Exemptions {
    entries: Vec<Entry>,
    text: String,
}

impl Exemptions {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).with_context(|| format!("parse {FILE}"))?;
        Ok(Self {
            entries: file.exempt,
            text: text.to_owned(),
        })
    }

    /// Takes out of `findings` what is exempt; adds one for each entry that does not fit them.
    pub(crate) fn filter(
        &self,
        rule: &str,
        exemptable: bool,
        mut findings: Vec<Finding>,
    ) -> Vec<Finding> {
        let mut about_entries = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.rule == rule) {
            let line = self.line_of(entry);
            if !exemptable {
                let what = format!("rule {rule} knows no exemptions");
                about_entries.push(Finding::new(FILE, line, what, "repair the place instead"));
                continue;
            }
            if entry.reason.trim().is_empty() {
                let what = "an entry without a reason";
                about_entries.push(Finding::new(
                    FILE,
                    line,
                    what,
                    "say why the rule does not fit",
                ));
            }
            let fits = |finding: &Finding| finding.path == entry.path && finding.item == entry.item;
            let size: usize = findings.iter().filter(|f| fits(f)).map(|f| f.measure).sum();
            if size > entry.size {
                let grown = format!(" (exempt up to {}, now {size})", entry.size);
                findings
                    .iter_mut()
                    .filter(|f| fits(f))
                    .for_each(|f| f.what.push_str(&grown));
                continue;
            }
            findings.retain(|finding| !fits(finding));
            if size == 0 {
                let what = format!("{} no longer breaks {rule}", entry.path);
                about_entries.push(Finding::new(FILE, line, what, "delete the entry"));
            } else if size < entry.size {
                let what = format!("{} shrank from {} to {size}", entry.path, entry.size);
                let instead = format!("write size = {size}");
                about_entries.push(Finding::new(FILE, line, what, instead));
            }
        }
        findings.extend(about_entries);
        findings
    }

    /// Entries whose rule is none of `rules`.
    pub(crate) fn unknown_rules(&self, rules: &[&str]) -> Vec<Finding> {
        let unknown = self
            .entries
            .iter()
            .filter(|entry| !rules.contains(&entry.rule.as_str()));
        unknown
            .map(|entry| {
                let what = format!("no rule is called {}", entry.rule);
                let instead = format!("use one of: {}", rules.join(" "));
                Finding::new(FILE, self.line_of(entry), what, instead)
            })
            .collect()
    }

    /// Line of the entry's path, which is good enough to find it.
    fn line_of(&self, entry: &Entry) -> usize {
        let quoted = format!("\"{}\"", entry.path);
        self.text
            .lines()
            .position(|line| line.contains(&quoted))
            .map_or(1, |at| at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(size: usize) -> String {
        format!("[[exempt]]\nrule = \"r\"\npath = \"a\"\nsize = {size}\nreason = \"why\"\n")
    }

    fn left(text: &str, exemptable: bool, measures: &[usize]) -> Vec<String> {
        let one = |measure: &usize| Finding::new("a", 1, "w", "i").measuring(*measure);
        let findings = measures.iter().map(one).collect();
        let exemptions = Exemptions::parse(text).expect("valid");
        exemptions
            .filter("r", exemptable, findings)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn an_entry_lets_through_what_it_says_and_no_more() {
        assert_eq!(left(&entry(7), true, &[3, 4]), [""; 0]);
        let grown = "a:1: w (exempt up to 7, now 8); i";
        assert_eq!(left(&entry(7), true, &[8]), [grown]);
        let shrunk = "xtask/tidy-exempt.toml:3: a shrank from 7 to 6; write size = 6";
        assert_eq!(left(&entry(7), true, &[6]), [shrunk]);
        let stale = "xtask/tidy-exempt.toml:3: a no longer breaks r; delete the entry";
        assert_eq!(left(&entry(7), true, &[]), [stale]);
        assert_eq!(left(&entry(1), false, &[1]).len(), 2);
        assert_eq!(left("", true, &[1]), ["a:1: w; i"]);
    }

    #[test]
    fn unknown_rules_and_keys_are_errors() {
        let exemptions = Exemptions::parse(&entry(1)).expect("valid");
        assert_eq!(exemptions.unknown_rules(&["s"]).len(), 1);
        assert_eq!(exemptions.unknown_rules(&["s", "r"]).len(), 0);
        assert!(Exemptions::parse("[[exempt]]\nrul = 1\n").is_err());
    }
}
