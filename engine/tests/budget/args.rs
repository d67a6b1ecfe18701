//! What the command line asks for.

use std::path::PathBuf;

/// See the module. Options of the test harness are none of ours.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// The program that is tried.
    pub(crate) larder: PathBuf,
    /// Models instead of those of the repository.
    pub(crate) models: Vec<PathBuf>,
    /// Where runs work and spill, instead of the folder for temporary files.
    pub(crate) folder: Option<PathBuf>,
    /// All settings and budgets, and a table of them.
    pub(crate) is_table: bool,
    /// Tests are chosen by these words.
    words: Vec<String>,
    /// Tests that are left out.
    skips: Vec<String>,
}

impl Args {
    pub(crate) fn parse(all: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            larder: PathBuf::from(env!("CARGO_BIN_EXE_larder")),
            models: Vec::new(),
            folder: None,
            is_table: false,
            words: Vec::new(),
            skips: Vec::new(),
        };
        let mut all = all.skip(1);
        while let Some(arg) = all.next() {
            let mut path = || all.next().map(PathBuf::from);
            match arg.as_str() {
                "--larder" => args.larder = path().ok_or("--larder names no program")?,
                "--model" => args.models.push(path().ok_or("--model names no file")?),
                "--folder" => args.folder = Some(path().ok_or("--folder names no folder")?),
                "--table" => args.is_table = true,
                option if option.starts_with("--skip=") => {
                    args.skips.push(option["--skip=".len()..].to_owned());
                }
                option if option.starts_with('-') => {}
                word => args.words.push(word.to_owned()),
            }
        }
        Ok(args)
    }

    /// The words choose a test of this name.
    pub(crate) fn chooses(&self, name: &str) -> bool {
        let is_in = |word: &String| name.contains(word.as_str());
        let is_wanted = self.words.is_empty() || self.words.iter().any(is_in);
        is_wanted && !self.skips.iter().any(is_in)
    }
}
