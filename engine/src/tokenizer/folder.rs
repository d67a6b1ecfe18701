//! `tokenizer.json` of a model folder, through the `tokenizers` crate.

use super::{Encoder, Pieces, Tokenizer, TokenizerError, bpe, spm};
use crate::manifest::SpecialTokens;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Opens the folder's tokenizer, if it has one.
pub(super) fn open(
    folder: &Path,
    special: SpecialTokens,
) -> Result<Option<Tokenizer>, TokenizerError> {
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Ok(None);
    }
    let fail = |what: String| TokenizerError::File {
        path: path.clone(),
        what,
    };
    let text = std::fs::read(&path).map_err(|error| fail(error.to_string()))?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
    let library =
        tokenizers::Tokenizer::from_bytes(&text).map_err(|error| fail(error.to_string()))?;
    let decoder = decoder_types(&json["decoder"]);
    let has = |name: &str| decoder.iter().any(|found| found == name);
    let is_byte_level = has("ByteLevel");
    let pieces = pieces(&library, is_byte_level).map_err(fail)?;
    // What the post-processor puts before an empty text is the begin token.
    let empty = library
        .encode_fast("", true)
        .map_err(|error| fail(error.to_string()))?;
    let bos = empty
        .get_ids()
        .first()
        .copied()
        .filter(|id| !special.eos.contains(id));
    let special = SpecialTokens {
        bos: bos.or(special.bos),
        ..special
    };
    Ok(Some(Tokenizer {
        encoder: Encoder::Library(Box::new(library)),
        pieces,
        special,
        adds_bos: bos.is_some(),
        strips_first_space: !is_byte_level && (has("Strip") || has("Metaspace")),
    }))
}

/// Types of a decoder and of those inside it.
fn decoder_types(decoder: &Value) -> Vec<String> {
    let mut types: Vec<String> = decoder["type"]
        .as_str()
        .map(str::to_owned)
        .into_iter()
        .collect();
    for inner in decoder["decoders"].as_array().into_iter().flatten() {
        types.extend(decoder_types(inner));
    }
    types
}

/// Bytes of every id; special tokens have none, and neither have numbers without a token.
fn pieces(library: &tokenizers::Tokenizer, is_byte_level: bool) -> Result<Pieces, String> {
    let added: HashMap<u32, bool> = library
        .get_added_tokens_decoder()
        .iter()
        .map(|(&id, token)| (id, token.special))
        .collect();
    let mut tokens: Vec<(u32, String)> = library
        .get_vocab(true)
        .into_iter()
        .map(|(token, id)| (id, token))
        .collect();
    tokens.sort_unstable();
    let size = tokens.last().map_or(0, |&(id, _)| id as usize + 1);
    if size > 4 * tokens.len() + 4096 {
        return Err(format!("ids up to {size} for {} tokens", tokens.len()));
    }
    let mut pieces = Pieces::default();
    for (id, token) in tokens {
        while pieces.ends.len() < id as usize {
            pieces.push(b"");
        }
        if pieces.ends.len() > id as usize {
            return Err(format!("two tokens have the id {id}"));
        }
        match added.get(&id) {
            Some(true) => pieces.push(b""),
            Some(false) => pieces.push(token.as_bytes()),
            None if is_byte_level => pieces.push(&bpe::bytes_of(&token)),
            None => match spm::byte_of(&token) {
                Some(byte) => pieces.push(&[byte]),
                None => pieces.push(token.replace('\u{2581}', " ").as_bytes()),
            },
        }
    }
    Ok(pieces)
}
