//! Counts what the test binaries report, and collects why tests skipped.

use std::collections::BTreeMap;
use std::fmt;

/// Sums over all test binaries of one run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Reason of each test that skipped, by binary and test.
    skips: BTreeMap<(String, String), String>,
    /// The binary whose output is being read.
    binary: u64,
    /// The test whose captured output is being read.
    test: Option<String>,
    in_captured: bool,
    /// What tests that passed have printed is worth showing.
    shows_captured: bool,
}

impl Tally {
    /// Nothing so far; `shows_captured`: show what tests that passed have printed.
    pub(crate) fn new(shows_captured: bool) -> Self {
        Self {
            shows_captured,
            ..Self::default()
        }
    }

    /// Reads one line; says whether it is worth showing. Output of tests that passed is
    /// not, unless it was asked for.
    pub(crate) fn add(&mut self, line: &str) -> bool {
        let line = line.trim_end();
        if line.starts_with("running ") && line.contains(" test") {
            self.binary += 1;
            (self.in_captured, self.test) = (false, None);
        } else if line == "successes:" {
            self.in_captured = true;
        } else if line == "failures:" {
            (self.in_captured, self.test) = (false, None);
        } else if let Some(result) = line.strip_prefix("test result: ") {
            (self.in_captured, self.test) = (false, None);
            self.add_result(result);
        } else if let Some(test) = captured_test(line) {
            self.test = Some(test.to_owned());
        } else if let Some(reason) = line.trim_start().strip_prefix("skipped: ") {
            let test = self.test.clone().unwrap_or_else(|| "a test".to_owned());
            self.skips
                .insert((format!("{:06}", self.binary), test), reason.to_owned());
            return false;
        }
        !self.in_captured || self.shows_captured
    }

    /// Reads `ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn add_result(&mut self, result: &str) {
        let counts = result.split_once(". ").map_or(result, |(_, counts)| counts);
        for part in counts.split(';') {
            let Some((count, what)) = part.trim().split_once(' ') else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }

    /// Each skipped test with its reason.
    pub(crate) fn skips(&self) -> impl Iterator<Item = String> {
        self.skips
            .iter()
            .map(|((_, test), reason)| format!("{test}: {reason}"))
    }
}

/// The test that a line like `---- tests::name stdout ----` announces.
fn captured_test(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A test that skips returns without failing, so the test binary counted it as passed.
        let skipped = self.skips.len() as u64;
        let passed = self.passed.saturating_sub(skipped);
        write!(
            f,
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            skipped + self.ignored
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 3 tests
test a ... ok
test b ... FAILED
test c ... ignored

successes:

---- a stdout ----
chatter
skipped: no io_uring here


successes:
    a

failures:

---- b stdout ----
thread 'b' panicked

failures:
    b

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 1 test
test a ... ok

successes:

---- a stdout ----
skipped: no disk

successes:
    a

test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn results_of_all_binaries_are_summed() {
        let mut tally = Tally::default();
        let shown: Vec<&str> = OUTPUT.lines().filter(|line| tally.add(line)).collect();
        assert_eq!(tally.to_string(), "6 passed, 1 failed, 3 skipped");
        let skips: Vec<String> = tally.skips().collect();
        assert_eq!(skips, ["a: no io_uring here", "a: no disk"]);
        assert!(shown.contains(&"thread 'b' panicked") && !shown.contains(&"chatter"));
    }
}
