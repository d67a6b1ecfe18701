//! Doors for fuzzers: bytes in, no panic, no hang, no more memory than the bytes justify.
//!
//! The targets of `engine/fuzz` call these, and so does a short seeded run among the tests.

use super::container::{Container, Form, SourceFile};
use super::files::ModelFiles;
use super::gguf::Header;
use super::hf::{HfConfig, HfGeneration};
use super::stored::StoredTensor;
use super::{Manifest, safetensors};
use std::io;
use std::path::{Path, PathBuf};

/// Opens `data` as a GGUF file; true if it is a model.
pub fn gguf(data: &[u8]) -> bool {
    let Ok(header) = Header::read(data, data.len() as u64) else {
        return false;
    };
    build(header.tensors, Form::Gguf(header.metadata), data)
}

/// Opens `data` as `model.safetensors` of a folder whose `config.json` is [`CONFIG`].
pub fn safetensors_header(data: &[u8]) -> bool {
    let Ok(tensors) = safetensors::read_header(data, data.len() as u64) else {
        return false;
    };
    let config = serde_json::from_slice(CONFIG.as_bytes()).expect("the constant is JSON");
    let generation = HfGeneration::default();
    build(
        tensors,
        Form::Folder {
            config: Box::new(config),
            generation,
        },
        data,
    )
}

/// Opens `data` as the root object of a packed model.
pub fn packed_root(data: &[u8]) -> bool {
    Manifest::from_packed(Path::new("remote://fuzz"), data).is_ok()
}

/// Reads `data` as `config.json` of a folder without tensors.
pub fn config_json(data: &[u8]) -> bool {
    let Ok(config) = serde_json::from_slice::<HfConfig>(data) else {
        return false;
    };
    let generation = serde_json::from_slice(data).unwrap_or_default();
    build(
        Vec::new(),
        Form::Folder {
            config: Box::new(config),
            generation,
        },
        data,
    )
}

/// A configuration that a fuzzer can meet with few tensors.
pub const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 12, "vocab_size": 10, "max_position_embeddings": 64,
    "tie_word_embeddings": true}"#;

fn build(tensors: Vec<StoredTensor>, form: Form, data: &[u8]) -> bool {
    let path = PathBuf::from("fuzzed");
    let files = vec![SourceFile {
        path: path.clone(),
        len: data.len() as u64,
    }];
    let container = Container {
        path,
        files,
        tensors,
        form,
        source: ModelFiles::Disk,
    };
    container.outline();
    let built = Manifest::build(&container, &mut |_, offset, buffer| {
        let bytes = data
            .get(offset as usize..)
            .and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    });
    match built {
        Ok(manifest) => {
            assert!(manifest.step_bytes() <= manifest.weight_bytes());
            assert!(manifest.weight_bytes() <= data.len() as u64);
            true
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "messages are one line");
            false
        }
    }
}

#[cfg(test)]
mod tests;
