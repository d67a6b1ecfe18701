//! Text to token ids and back.
//!
//! Three forms of vocabulary open to one [`Tokenizer`]: llama's SPM from GGUF (our own merge
//! loop), byte-level BPE from GGUF and `tokenizer.json` of a folder (both through the
//! `tokenizers` crate). Decoding is the same for all: every id stands for some bytes.

mod bpe;
mod spm;

mod folder;

mod stream;

pub use stream::StreamDecoder;

use crate::manifest::gguf::{Metadata, Strings};
use crate::manifest::{Container, SpecialTokens};
use std::path::PathBuf;

/// A vocabulary could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("vocabulary: {what}")]
    Vocabulary { what: String },
    #[error("tokenizer model '{model}' is not supported; supported are llama and gpt2")]
    Model { model: String },
    #[error("pre-tokenizer '{pre}' is not supported; supported are {supported}")]
    PreTokenizer { pre: String, supported: String },
    #[error("{}: {what}", path.display())]
    File { path: PathBuf, what: String },
    #[error("encode text: {what}")]
    Encode { what: String },
    #[error("token {token} is not in the vocabulary of {size} tokens")]
    UnknownToken { token: u32, size: usize },
}

fn broken(what: impl Into<String>) -> TokenizerError {
    TokenizerError::Vocabulary { what: what.into() }
}

/// Type of a token when a GGUF file gives none.
const NORMAL: i32 = 1;

/// Tokens of a GGUF vocabulary and the type of each.
fn tokens_and_types(metadata: &Metadata) -> Result<(&Strings, Vec<i32>), TokenizerError> {
    let tokens = metadata
        .strings("tokenizer.ggml.tokens")
        .ok_or_else(|| broken("no tokens"))?;
    let types = metadata
        .i32s("tokenizer.ggml.token_type")
        .unwrap_or_else(|| vec![NORMAL; tokens.len()]);
    if tokens.is_empty() || types.len() != tokens.len() {
        let (tokens, types) = (tokens.len(), types.len());
        return Err(broken(format!("{tokens} tokens with {types} types")));
    }
    Ok((tokens, types))
}

/// Control tokens that end a text in the chat forms of well-known families, whether or not the
/// file says so.
const ENDINGS: [&str; 8] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
];

/// Adds the well-known endings among `tokens` (in the order of their ids, with whether each is a
/// control token) to those that the file names.
fn endings<'a>(
    tokens: impl Iterator<Item = (&'a str, bool)>,
    mut special: SpecialTokens,
) -> SpecialTokens {
    for (id, (token, is_control)) in (0..).zip(tokens) {
        if is_control && ENDINGS.contains(&token) && !special.eos.contains(&id) {
            special.eos.push(id);
        }
    }
    special
}

/// Encoder of one vocabulary.
enum Encoder {
    Spm(spm::Spm),
    Library(Box<tokenizers::Tokenizer>),
}

/// See the module.
pub struct Tokenizer {
    encoder: Encoder,
    /// Bytes that each id stands for; none for control tokens.
    pieces: Pieces,
    special: SpecialTokens,
    /// A text starts with `special.bos`.
    adds_bos: bool,
    /// The space before the first word is part of the encoding, not of the text.
    strips_first_space: bool,
}

/// Bytes of every token, back to back.
#[derive(Debug, Default)]
struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Pieces {
    fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        self.ends.push(self.bytes.len() as u32);
    }

    fn get(&self, token: u32) -> Option<&[u8]> {
        let index = token as usize;
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        Some(&self.bytes[start..end])
    }
}

impl Tokenizer {
    /// The tokenizer of a model, or `None` if the model comes without one.
    pub fn open(container: &Container) -> Result<Option<Self>, TokenizerError> {
        let special = container.special_tokens();
        let Some(metadata) = container.metadata() else {
            return folder::open(&container.path, &container.source, special);
        };
        match metadata.str("tokenizer.ggml.model") {
            // Files for engines that want the key say that there is none.
            None | Some("none" | "no_vocab") => Ok(None),
            Some("llama") => spm::open(metadata, special).map(Some),
            Some("gpt2") => bpe::open(metadata, special).map(Some),
            Some(model) => Err(TokenizerError::Model {
                model: model.to_owned(),
            }),
        }
    }

    /// Ids of `text`, with the begin token in front if `with_bos` and the vocabulary has it so.
    pub fn encode(&self, text: &str, with_bos: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        if with_bos && self.adds_bos {
            ids.extend(self.special.bos);
        }
        match &self.encoder {
            Encoder::Spm(spm) => spm.encode(text, &mut ids)?,
            Encoder::Library(library) => {
                let encoding =
                    library
                        .encode_fast(text, false)
                        .map_err(|error| TokenizerError::Encode {
                            what: error.to_string(),
                        })?;
                ids.extend_from_slice(encoding.get_ids());
            }
        }
        Ok(ids)
    }

    /// Text of `ids`, which begin a text.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let mut stream = self.stream(true);
        let mut text = String::new();
        for &id in ids {
            self.piece(id)?;
            text.push_str(&stream.push(id));
        }
        text.push_str(&stream.finish());
        Ok(text)
    }

    /// A decoder for ids that come one by one, at the start of a text or behind a prompt.
    pub fn stream(&self, is_start: bool) -> StreamDecoder<'_> {
        StreamDecoder::new(self, is_start && self.strips_first_space)
    }

    /// Tokens that end a generation.
    pub fn eos(&self) -> &[u32] {
        &self.special.eos
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        self.pieces.ends.len()
    }

    fn piece(&self, token: u32) -> Result<&[u8], TokenizerError> {
        let size = self.size();
        self.pieces
            .get(token)
            .ok_or(TokenizerError::UnknownToken { token, size })
    }
}

#[cfg(test)]
mod tests;
