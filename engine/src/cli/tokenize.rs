//! `larder tokenize` and `larder detokenize`.

use super::error::CliError;
use super::options::{DetokenizeOptions, TokenizeOptions};
use super::prompt::read_text;
use super::size::parse_ids;
use super::table::print;
use crate::manifest::open_container;
use crate::tokenizer::Tokenizer;
use serde_json::json;
use std::path::Path;

fn open(model: &Path) -> Result<Tokenizer, CliError> {
    let container = open_container(model)?;
    Tokenizer::open(&container)?
        .ok_or_else(|| CliError::Usage(format!("{} has no tokenizer", model.display())))
}

pub(super) fn tokenize(options: &TokenizeOptions) -> Result<(), CliError> {
    let tokenizer = open(&options.model)?;
    let text = if options.text == "-" {
        read_text(Path::new("-"))?
    } else {
        options.text.clone()
    };
    let ids = tokenizer.encode(&text, !options.no_bos)?;
    print(options.json, &json!({ "tokens": ids }), || {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        ids.join(",")
    })
}

pub(super) fn detokenize(options: &DetokenizeOptions) -> Result<(), CliError> {
    let ids = parse_ids(&options.ids).map_err(CliError::Usage)?;
    let text = open(&options.model)?.decode(&ids)?;
    print(options.json, &json!({ "text": text }), || text.clone())
}
