//! SPM: merge the neighbours whose piece has the highest score, until no piece is left to make.
//!
//! Source: Kudo and Richardson, SentencePiece, 2018 (its BPE mode), with llama's byte fallback.

use super::{Encoder, Pieces, Tokenizer, TokenizerError, broken, endings, tokens_and_types};
use crate::manifest::SpecialTokens;
use crate::manifest::gguf::{Metadata, Strings};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// Stands for a space inside pieces.
const SPACE_MARK: char = '\u{2581}';

// Token types of GGUF.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Scores and ids of the pieces that text is merged into.
pub(super) struct Spm {
    ids: HashMap<Box<str>, u32>,
    scores: Vec<f32>,
    /// Ids of the bytes that no piece has.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    /// By first character, longest first; matched as they are before anything is merged.
    user_defined: HashMap<char, Vec<Box<str>>>,
    adds_space: bool,
}

/// Opens the vocabulary of a GGUF file.
pub(super) fn open(
    metadata: &Metadata,
    special: SpecialTokens,
) -> Result<Tokenizer, TokenizerError> {
    let (tokens, types) = tokens_and_types(metadata)?;
    let scores = metadata
        .f32s("tokenizer.ggml.scores")
        .ok_or_else(|| broken("no scores"))?;
    if scores.len() != tokens.len() {
        let (tokens, scores) = (tokens.len(), scores.len());
        return Err(broken(format!("{tokens} tokens with {scores} scores")));
    }
    if let Some(at) = scores.iter().position(|score| score.is_nan()) {
        return Err(broken(format!("score of token {at} is not a number")));
    }
    let adds_space = metadata
        .bool("tokenizer.ggml.add_space_prefix")
        .unwrap_or(true);
    let spm = Spm {
        ids: HashMap::with_capacity(tokens.len()),
        scores,
        bytes: vec![None; 256],
        unknown: metadata.u32("tokenizer.ggml.unknown_token_id"),
        user_defined: HashMap::new(),
        adds_space,
    };
    let is_control = types.iter().map(|&ty| ty == CONTROL);
    let special = endings(tokens.iter().zip(is_control), special);
    let (spm, pieces) = spm.with_tokens(tokens, &types);
    Ok(Tokenizer {
        encoder: Encoder::Spm(spm),
        pieces,
        special,
        adds_bos: metadata
            .bool("tokenizer.ggml.add_bos_token")
            .unwrap_or(true),
        strips_first_space: adds_space,
    })
}

/// The byte of a token such as `<0x0A>`.
pub(super) fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// A piece of the text, linked to its neighbours.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// Zero once it was merged into its left neighbour.
    len: usize,
    left: usize,
    right: usize,
}

const NONE: usize = usize::MAX;

/// A merge that could be made.
struct Merge {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of the piece: tells a merge that is out of date.
    len: usize,
}

impl Ord for Merge {
    /// Highest score first, then leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Merge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Merge {}

impl Spm {
    /// Takes the tokens in the order of their ids; also gives their bytes.
    fn with_tokens(mut self, tokens: &Strings, types: &[i32]) -> (Self, Pieces) {
        let mut pieces = Pieces::default();
        for (id, (token, &ty)) in (0..).zip(tokens.iter().zip(types)) {
            let byte = (ty == BYTE).then(|| byte_of(token)).flatten();
            if let Some(byte) = byte {
                self.bytes[usize::from(byte)] = Some(id);
                pieces.push(&[byte]);
                continue;
            }
            if matches!(ty, UNKNOWN | CONTROL | UNUSED) {
                pieces.push(b"");
                continue;
            }
            pieces.push(token.replace(SPACE_MARK, " ").as_bytes());
            if let (USER_DEFINED, Some(first)) = (ty, token.chars().next()) {
                let same = self.user_defined.entry(first).or_default();
                same.push(token.into());
            }
            self.ids.entry(token.into()).or_insert(id);
        }
        for tokens in self.user_defined.values_mut() {
            tokens.sort_by_key(|token| std::cmp::Reverse(token.len()));
        }
        (self, pieces)
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        let prefix = if self.adds_space { " " } else { "" };
        let marked = format!("{prefix}{text}").replace(' ', SPACE_MARK.encode_utf8(&mut [0; 4]));
        let mut rest = marked.as_str();
        while !rest.is_empty() {
            let (plain, token) = self.next_user_defined(rest);
            if !plain.is_empty() {
                self.merge(plain, ids)?;
            }
            if let Some(token) = token {
                ids.push(self.ids[token]);
            }
            rest = &rest[plain.len() + token.map_or(0, str::len)..];
        }
        Ok(())
    }

    /// Text before the first user-defined token, and that token.
    fn next_user_defined<'a>(&'a self, text: &'a str) -> (&'a str, Option<&'a str>) {
        if self.user_defined.is_empty() {
            return (text, None);
        }
        let found = text.char_indices().find_map(|(at, first)| {
            let tokens = self.user_defined.get(&first)?;
            let token = tokens
                .iter()
                .find(|token| text[at..].starts_with(&***token))?;
            Some((at, &**token))
        });
        match found {
            Some((at, token)) => (&text[..at], Some(token)),
            None => (text, None),
        }
    }

    fn merge(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let count = text.chars().count();
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, letter))| Symbol {
                start,
                len: letter.len_utf8(),
                left: index.checked_sub(1).unwrap_or(NONE),
                right: if index + 1 < count { index + 1 } else { NONE },
            })
            .collect();
        let mut heap = BinaryHeap::with_capacity(count);
        for right in 1..count {
            self.consider(text, &symbols, right - 1, right, &mut heap);
        }
        while let Some(merge) = heap.pop() {
            let (a, b) = (symbols[merge.left], symbols[merge.right]);
            if a.len == 0 || b.len == 0 || a.len + b.len != merge.len {
                continue;
            }
            symbols[merge.left].len = merge.len;
            symbols[merge.left].right = b.right;
            symbols[merge.right].len = 0;
            if b.right != NONE {
                symbols[b.right].left = merge.left;
            }
            self.consider(text, &symbols, a.left, merge.left, &mut heap);
            self.consider(text, &symbols, merge.left, b.right, &mut heap);
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            self.emit(&text[symbol.start..][..symbol.len], ids)?;
        }
        Ok(())
    }

    /// Puts the merge of two neighbours into the heap if it makes a piece.
    fn consider(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: usize,
        right: usize,
        heap: &mut BinaryHeap<Merge>,
    ) {
        if left == NONE || right == NONE {
            return;
        }
        let len = symbols[left].len + symbols[right].len;
        if let Some(&id) = self.ids.get(&text[symbols[left].start..][..len]) {
            heap.push(Merge {
                score: self.scores[id as usize],
                left,
                right,
                len,
            });
        }
    }

    /// The id of a piece, or of its bytes, or the unknown token.
    fn emit(&self, piece: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        if let Some(&id) = self.ids.get(piece) {
            ids.push(id);
            return Ok(());
        }
        let bytes: Option<Vec<u32>> = piece
            .bytes()
            .map(|byte| self.bytes[usize::from(byte)])
            .collect();
        match (bytes, self.unknown) {
            (Some(bytes), _) => ids.extend(bytes),
            (None, Some(unknown)) => ids.push(unknown),
            (None, None) => {
                let what = format!("no token for '{}'", piece.escape_debug());
                return Err(TokenizerError::Encode { what });
            }
        }
        Ok(())
    }
}
