//! The model behind a command, its tokenizer, and the tokens of the prompt.

use super::error::CliError;
use super::options::PromptArgs;
use super::size::parse_ids;
use crate::manifest::Manifest;
use crate::session::{Nodes, SCHEME, Session, SessionError, SessionOptions};
use crate::tokenizer::Tokenizer;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A file of this name is standard input.
pub(super) const STDIN: &str = "-";

/// A model with what turns its ids into text, if it has that.
pub(super) struct OpenModel {
    pub(super) manifest: Arc<Manifest>,
    nodes: Nodes,
    tokenizer: Result<Option<Tokenizer>, CliError>,
}

impl OpenModel {
    /// Opens a file, a folder, or `remote://NAME` of the nodes among the tiers.
    pub(super) fn open(path: &Path, engine: &SessionOptions) -> Result<Self, CliError> {
        let mut nodes = Nodes::connect(engine).map_err(SessionError::from)?;
        let name = path.to_str().and_then(|path| path.strip_prefix(SCHEME));
        let (container, manifest) = if let Some(name) = name {
            nodes.open_model(name).map_err(SessionError::from)?
        } else {
            Manifest::open_with_container(path)?
        };
        let tokenizer = Tokenizer::open(&container).map_err(CliError::from);
        Ok(Self {
            manifest: Arc::new(manifest),
            nodes,
            tokenizer,
        })
    }

    /// Opens a session on the model.
    pub(super) fn session(&self, engine: &SessionOptions) -> Result<Session, SessionError> {
        Session::open_with(Arc::clone(&self.manifest), engine, &self.nodes)
    }

    /// The tokenizer, if there is one that works: ids do without.
    pub(super) fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref().ok().and_then(Option::as_ref)
    }

    /// Tokens that end a generation.
    pub(super) fn eos(&self) -> &[u32] {
        self.tokenizer()
            .map_or(&self.manifest.special.eos, Tokenizer::eos)
    }

    /// Tokens of a text, with the begin token.
    pub(super) fn encode(self, text: &str) -> Result<(Self, Vec<u32>), CliError> {
        let path = self.manifest.path.display().to_string();
        match self.tokenizer {
            Err(error) => Err(error),
            Ok(None) => Err(CliError::Usage(format!(
                "{path} has no tokenizer; give --prompt-tokens instead of text"
            ))),
            Ok(Some(tokenizer)) => {
                let ids = tokenizer.encode(text, true)?;
                Ok((
                    Self {
                        tokenizer: Ok(Some(tokenizer)),
                        ..self
                    },
                    ids,
                ))
            }
        }
    }

    /// Tokens of what was typed.
    pub(super) fn prompt(self, prompt: &PromptArgs) -> Result<(Self, Vec<u32>), CliError> {
        if let Some(ids) = &prompt.prompt_tokens {
            return Ok((self, parse_ids(ids).map_err(CliError::Usage)?));
        }
        let text = match (&prompt.prompt, &prompt.file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) => read_text(file)?,
            (None, None) => unreachable!("one of the three is required"),
        };
        self.encode(&text)
    }
}

/// The text of a file; `-` is standard input.
pub(super) fn read_text(path: &Path) -> Result<String, CliError> {
    let fail = |source| CliError::File {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    if path == Path::new(STDIN) {
        std::io::stdin().read_to_end(&mut bytes).map_err(fail)?;
    } else {
        bytes = std::fs::read(path).map_err(fail)?;
    }
    String::from_utf8(bytes).map_err(|error| fail(std::io::Error::other(error.utf8_error())))
}
