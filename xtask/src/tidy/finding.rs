//! What a rule reports.

use std::fmt;

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Relative to the workspace root.
    pub(crate) path: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Name of the item inside the file, where one file can break the rule for several.
    pub(crate) item: Option<String>,
    /// Lines for the size rules, 1 for the others; an exemption bounds the sum.
    pub(crate) measure: usize,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do instead.
    pub(crate) instead: String,
}

impl Finding {
    pub(crate) fn new(
        path: &str,
        line: usize,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        let (what, instead) = (what.into(), instead.into());
        Self {
            path: path.to_owned(),
            line,
            item: None,
            measure: 1,
            what,
            instead,
        }
    }

    #[must_use]
    pub(crate) fn of_item(self, item: &str) -> Self {
        Self {
            item: Some(item.to_owned()),
            ..self
        }
    }

    #[must_use]
    pub(crate) fn measuring(self, measure: usize) -> Self {
        Self { measure, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}; {}",
            self.path, self.line, self.what, self.instead
        )
    }
}
