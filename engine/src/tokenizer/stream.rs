//! Streaming detokenisation: whole characters only, as early as they are whole.

use super::Tokenizer;

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

    /// Text that is whole after `token`; empty if a character is still cut. A token that only pads
    /// the model's vocabulary, which a model may pick all the same, stands for nothing.
    pub fn push(&mut self, token: u32) -> String {
        let mut piece = self.tokenizer.piece(token).unwrap_or_default();
        if self.strips_space && !piece.is_empty() {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
            self.strips_space = false;
        }
        self.pending.extend_from_slice(piece);
        self.take_whole()
    }

    /// What is left: bytes that never became a character, as U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    /// Takes what is whole, and U+FFFD for what can never become a character.
    fn take_whole(&mut self) -> String {
        let bytes = std::mem::take(&mut self.pending);
        let mut text = String::new();
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let is_cut = chunks.peek().is_none()
                && std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none());
            if is_cut {
                self.pending = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }
}
