//! Streaming detokenisation: whole characters only, as early as they are whole.

use super::{Tokenizer, TokenizerError};

/// Decodes ids one by one; the pieces it gives add up to the decoded whole.
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes that do not make a whole character yet; never more than three valid ones.
    pending: Vec<u8>,
    strips_space: bool,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, strips_space: bool) -> Self {
        Self {
            tokenizer,
            pending: Vec::new(),
            strips_space,
        }
    }

    /// Text that is whole after `token`; empty if a character is still cut.
    pub fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        let mut piece = self.tokenizer.piece(token)?;
        if self.strips_space && !piece.is_empty() {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
            self.strips_space = false;
        }
        self.pending.extend_from_slice(piece);
        Ok(self.take_whole())
    }

    /// What is left: bytes that never became a character, as U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    fn take_whole(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(all) => {
                    text.push_str(all);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (good, rest) = self.pending.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(good));
                    let Some(bad) = error.error_len() else {
                        self.pending = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.pending = rest[bad..].to_vec();
                }
            }
        }
    }
}
