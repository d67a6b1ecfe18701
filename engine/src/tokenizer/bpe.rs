//! Byte-level BPE from a GGUF vocabulary, built for the `tokenizers` crate.
//!
//! Source: Radford et al., GPT-2, 2019 (bytes as printable characters); the splitting patterns
//! are those that each model family was trained with.

use super::{Encoder, Pieces, Tokenizer, TokenizerError, broken, endings, tokens_and_types};
use crate::manifest::SpecialTokens;
use crate::manifest::gguf::{Metadata, Strings};

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

// Token types of GGUF.
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names of `tokenizer.ggml.pre` and their patterns.
const PATTERNS: &[(&str, &str)] = &[
    ("gpt-2", GPT2),
    ("llama-bpe", LLAMA3),
    ("llama3", LLAMA3),
    ("llama-v3", LLAMA3),
    ("smaug-bpe", LLAMA3),
    ("qwen2", QWEN2),
    ("gpt-4o", GPT4O),
];

/// Families whose whole words are looked up before anything is merged.
const IGNORES_MERGES: &[&str] = &["llama-bpe", "llama3", "llama-v3"];

/// Opens the vocabulary of a GGUF file.
pub(super) fn open(
    metadata: &Metadata,
    special: SpecialTokens,
) -> Result<Tokenizer, TokenizerError> {
    let pre = metadata.str("tokenizer.ggml.pre").unwrap_or("gpt-2");
    let Some(&(_, pattern)) = PATTERNS.iter().find(|(name, _)| *name == pre) else {
        let names: Vec<&str> = PATTERNS.iter().map(|(name, _)| *name).collect();
        return Err(TokenizerError::PreTokenizer {
            pre: pre.to_owned(),
            supported: names.join(", "),
        });
    };
    let (tokens, types) = tokens_and_types(metadata)?;
    let merges = metadata
        .strings("tokenizer.ggml.merges")
        .ok_or_else(|| broken("no merges"))?;
    let mut library = tokenizers::Tokenizer::new(model(tokens, &types, merges, pre)?);
    library.with_pre_tokenizer(Some(pre_tokenizer(pattern)?));
    let added: Vec<AddedToken> = tokens
        .iter()
        .zip(&types)
        .filter(|&(token, &ty)| ty == USER_DEFINED && !token.is_empty())
        .map(|(token, _)| AddedToken::from(token, false).normalized(false))
        .collect();
    library
        .add_tokens(added)
        .map_err(|error| broken(format!("user-defined tokens: {error}")))?;
    let special = endings(
        tokens
            .iter()
            .zip(&types)
            .map(|(token, &ty)| (token, ty == CONTROL)),
        special,
    );
    let mut pieces = Pieces::default();
    for (token, &ty) in tokens.iter().zip(&types) {
        match ty {
            CONTROL => pieces.push(b""),
            USER_DEFINED => pieces.push(token.as_bytes()),
            _ => pieces.push(&bytes_of(token)),
        }
    }
    let adds_bos = metadata
        .bool("tokenizer.ggml.add_bos_token")
        .unwrap_or(IGNORES_MERGES.contains(&pre));
    let encoder = Encoder::Library(Box::new(library));
    Ok(Tokenizer {
        encoder,
        pieces,
        special,
        adds_bos,
        strips_first_space: false,
    })
}

/// Vocabulary and merges for the library. Control tokens stay out: text never becomes one.
fn model(
    tokens: &Strings,
    types: &[i32],
    merges: &Strings,
    pre: &str,
) -> Result<BPE, TokenizerError> {
    let vocab: Vocab = (0..)
        .zip(tokens.iter().zip(types))
        .filter(|(_, (_, ty))| **ty != CONTROL)
        .map(|(id, (token, _))| (token.to_owned(), id))
        .collect();
    if let Some(byte) = (0..=255).find(|&byte| !vocab.contains_key(&char_of(byte).to_string())) {
        return Err(broken(format!("no token for byte {byte}")));
    }
    let mut pairs = Vec::with_capacity(merges.len());
    for (index, merge) in merges.iter().enumerate() {
        // A space inside a piece cannot be: bytes are written as other characters.
        let (left, right) = merge
            .split_once(' ')
            .ok_or_else(|| broken(format!("merge {index} has no two parts")))?;
        check_merge(index, left, right, |piece| vocab.contains_key(piece))?;
        pairs.push((left.to_owned(), right.to_owned()));
    }
    BPE::builder()
        .vocab_and_merges(vocab, pairs)
        .ignore_merges(IGNORES_MERGES.contains(&pre))
        .build()
        .map_err(|error| broken(format!("merges: {error}")))
}

/// Both parts of a merge and what they make are tokens; the library relies on it.
pub(super) fn check_merge(
    index: usize,
    left: &str,
    right: &str,
    is_token: impl Fn(&str) -> bool,
) -> Result<(), TokenizerError> {
    if is_token(left) && is_token(right) && is_token(&format!("{left}{right}")) {
        return Ok(());
    }
    Err(broken(format!(
        "merge {index} is not of tokens into a token"
    )))
}

fn pre_tokenizer(pattern: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    let split = Split::new(
        SplitPattern::Regex(pattern.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(|error| broken(format!("splitting pattern: {error}")))?;
    let bytes = ByteLevel::new(false, true, false);
    Ok(Sequence::new(vec![split.into(), bytes.into()]).into())
}

/// Bytes that a byte-level piece stands for.
pub(super) fn bytes_of(piece: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(piece.len());
    for letter in piece.chars() {
        match byte_of(letter) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

/// Printable bytes stand for themselves; the others, in order, are the characters from U+0100.
fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    if let Ok(byte) = u8::try_from(code) {
        return is_printable(byte).then_some(byte);
    }
    (0..=255u8)
        .filter(|&byte| !is_printable(byte))
        .nth(code.checked_sub(256)? as usize)
}

/// The character that stands for a byte.
pub(super) fn char_of(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !is_printable(byte)).count() as u32;
    char::from_u32(256 + before).expect("68 characters from U+0100 exist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        assert_eq!(bytes_of("\u{120}a\u{10a}"), b" a\n");
        let mut seen: Vec<u8> = (0..0x180)
            .filter_map(char::from_u32)
            .filter_map(byte_of)
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert!((0..=255).all(|byte| byte_of(char_of(byte)) == Some(byte)));
    }
}
