//! What a command ends with when it does not succeed, and its one line.

use crate::follow::FollowError;
use crate::manifest::ModelError;
use crate::pack::PackError;
use crate::publish::PublishError;
use crate::sample::NotANumber;
use crate::session::{NodesError, SessionError};
use crate::tokenizer::TokenizerError;
use larder_ebpf::{ReadError, StartError, StopError};
use larder_pool::node::NodeError;
use larder_pool::remote::RemoteError;
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
    #[error(transparent)]
    Nodes(#[from] NodesError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    HeatStart(#[from] StartError),
    #[error(transparent)]
    HeatStop(#[from] StopError),
    #[error(transparent)]
    HeatRead(#[from] ReadError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("what was asked for cannot work: {names}; the lines marked no say why")]
    Doctor { names: String },
    #[error("wait for signals")]
    Signals { source: io::Error },
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
///
/// Errors quote names from model files. Their control characters are escaped, so that a file
/// cannot steer the terminal.
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
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = String::with_capacity(line.len());
    for letter in line.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
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
        let error = CliError::Usage("name\t\u{1b}[2J\u{7}".to_owned());
        assert_eq!(one_line(&error), "name \\u{1b}[2J\\u{7}");
        let source = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(CliError::output(source), CliError::Closed));
    }
}
