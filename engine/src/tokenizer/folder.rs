//! `tokenizer.json` of a model folder, through the `tokenizers` crate.

use super::{Encoder, Pieces, Tokenizer, TokenizerError, bpe, spm};
use crate::manifest::SpecialTokens;
use crate::manifest::files::ModelFiles;
use serde_json::Value;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// Opens the folder's tokenizer, if it has one.
pub(super) fn open(
    folder: &Path,
    files: &ModelFiles,
    special: SpecialTokens,
) -> Result<Option<Tokenizer>, TokenizerError> {
    let path = folder.join("tokenizer.json");
    if !files.exists(&path) {
        return Ok(None);
    }
    let fail = |what: String| TokenizerError::File {
        path: path.clone(),
        what,
    };
    let mut text = Vec::new();
    let read = files
        .open(&path)
        .and_then(|(mut file, _)| file.read_to_end(&mut text));
    read.map_err(|error| fail(error.to_string()))?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
    check_model(&json["model"])?;
    let mut library =
        tokenizers::Tokenizer::from_bytes(&text).map_err(|error| fail(error.to_string()))?;
    // The whole text, and nothing but the text: neither cut nor padded, nor read as control tokens.
    library
        .with_truncation(None)
        .map_err(|error| fail(error.to_string()))?;
    library.with_padding(None);
    library.set_encode_special_tokens(true);
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

/// Checks of a BPE model that the library itself relies on.
fn check_model(model: &Value) -> Result<(), TokenizerError> {
    if model["type"] != "BPE" {
        return Ok(());
    }
    let broken = |what: String| TokenizerError::Vocabulary { what };
    for option in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[option].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(broken(format!("{option} is not supported")));
        }
    }
    let vocab = model["vocab"]
        .as_object()
        .ok_or_else(|| broken("no vocabulary".to_owned()))?;
    for (index, merge) in model["merges"].as_array().into_iter().flatten().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(left), Value::String(right)] => {
                    Some((left.as_str(), right.as_str()))
                }
                _ => None,
            },
            _ => None,
        };
        let (left, right) =
            pair.ok_or_else(|| broken(format!("merge {index} has no two parts")))?;
        bpe::check_merge(index, left, right, |piece| vocab.contains_key(piece))?;
    }
    Ok(())
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
