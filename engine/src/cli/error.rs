//! What a command ends with when it does not succeed, and its one line.

use crate::manifest::ModelError;
use crate::sample::NotANumber;
use crate::session::SessionError;
use crate::tokenizer::TokenizerError;
use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    NotANumber(#[from] NotANumber),
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("write output")]
    Output { source: io::Error },
    /// The reader of our output has gone.
    #[error("output closed")]
    Closed,
}

impl CliError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    pub(super) fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Output { source }
        }
    }
}

/// The chain of causes in one line, each said once.
pub(super) fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once_in_one_line() {
        let source = io::Error::other("disk\nfull");
        let error = CliError::File {
            path: "out.npy".into(),
            source,
        };
        assert_eq!(one_line(&error), "out.npy: disk full");
        let source = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(CliError::output(source), CliError::Closed));
    }
}
