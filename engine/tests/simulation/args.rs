//! What the command line asks for.

use std::num::ParseIntError;

/// Seeds of a run when nothing else is said.
const SEEDS: u64 = 1000;

/// See the module. Options of the test harness are none of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args {
    /// First seed, and one behind the last.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Goes on until so many faults were injected.
    pub(crate) faults: u64,
    pub(crate) jobs: usize,
    /// A run that must fail: what blocks are compared with is wrong.
    pub(crate) is_canary: bool,
    /// The mutation to switch on, in a build that has them.
    pub(crate) mutant: Option<String>,
    /// Seeds alone, nothing else.
    pub(crate) is_bare: bool,
    /// Tests are chosen by these words.
    pub(crate) words: Vec<String>,
}

impl Args {
    pub(crate) fn parse(all: impl Iterator<Item = String>) -> Result<Self, ParseIntError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut args = Self {
            to: SEEDS,
            jobs: cores,
            ..Self::default()
        };
        let mut all = all.skip(1);
        while let Some(arg) = all.next() {
            let mut value = || all.next().unwrap_or_default();
            match arg.as_str() {
                "--seeds" => (args.to, args.is_bare) = (value().parse()?, true),
                "--seed" => {
                    args.from = value().parse()?;
                    (args.to, args.is_bare) = (args.from + 1, true);
                }
                "--faults" => {
                    args.faults = value().parse()?;
                    (args.to, args.is_bare) = (u64::MAX, true);
                }
                "--jobs" => args.jobs = value().parse()?,
                "--canary" => args.is_canary = true,
                "--mutant" => args.mutant = Some(value()),
                option if option.starts_with('-') => {}
                word => args.words.push(word.to_owned()),
            }
        }
        Ok(args)
    }

    /// The words choose a test of this name.
    pub(crate) fn chooses(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}
