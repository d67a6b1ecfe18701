//! Files of a model, opened but not judged: every tensor and all metadata, whether or not we can
//! compute with them.
//!
//! `inspect` and the tokenizer need no more; [`super::Manifest`] is made from one.

mod folder;
mod shards;

use super::error::{ModelError, Quoted};
use super::files::ModelFiles;
use super::gguf::{self, Metadata};
use super::hf::{HfConfig, HfGeneration, TokenIds};
use super::stored::StoredTensor;
use std::collections::HashSet;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Files of one model: far more than the largest has, far fewer than a host opens.
const FILES_MAX: u64 = 10_000;
const READ_BYTES: usize = 128 << 10;

/// A file that holds tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    pub path: PathBuf,
    /// Bytes when it was opened.
    pub len: u64,
}

/// What a model says about itself, by the form it comes in.
#[derive(Clone, Debug)]
pub enum Form {
    Gguf(Metadata),
    Folder {
        config: Box<HfConfig>,
        generation: HfGeneration,
    },
}

/// Tokens that begin and end a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    pub bos: Option<u32>,
    /// Any of these ends a generation.
    pub eos: Vec<u32>,
}

/// The first lines of `inspect`, as far as the files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    pub arch: String,
    pub layers: Option<u64>,
    pub experts: Option<u64>,
    pub context: Option<u64>,
}

/// All tensors and metadata of a model.
#[derive(Clone, Debug)]
pub struct Container {
    /// The path it was opened by: a GGUF file or a folder.
    pub path: PathBuf,
    pub files: Vec<SourceFile>,
    pub tensors: Vec<StoredTensor>,
    pub form: Form,
    /// Where the files are read from.
    pub source: ModelFiles,
}

impl Container {
    /// Opens a GGUF file (all its shards if it is the first of several) or a folder with
    /// `config.json`. Reads headers only.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::open_in(path, &ModelFiles::Disk)
    }

    /// Opens a model whose headers are read from `source`.
    pub fn open_in(path: &Path, source: &ModelFiles) -> Result<Self, ModelError> {
        let io = |error| ModelError::io(path, error);
        match source.is_folder(path).map_err(io)? {
            Some(true) => return folder::open(path, source),
            Some(false) => {}
            None => {
                return Err(ModelError::NotAModel {
                    path: path.to_path_buf(),
                    found: "neither a file nor a folder",
                });
            }
        }
        let mut magic = Vec::new();
        let (file, _) = source.open(path).map_err(io)?;
        let read = file.take(gguf::MAGIC.len() as u64).read_to_end(&mut magic);
        read.map_err(io)?;
        if magic != gguf::MAGIC {
            let found = match path.extension().and_then(|ext| ext.to_str()) {
                Some("safetensors") => "one file of a model folder",
                _ if magic.is_empty() => "an empty file",
                _ => "not a GGUF file and not a model folder",
            };
            return Err(ModelError::NotAModel {
                path: path.to_path_buf(),
                found,
            });
        }
        shards::open(path, source)
    }

    /// The metadata of a GGUF file.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.form {
            Form::Gguf(metadata) => Some(metadata),
            Form::Folder { .. } => None,
        }
    }

    pub fn special_tokens(&self) -> SpecialTokens {
        match &self.form {
            Form::Gguf(metadata) => {
                let id = |name: &str| metadata.u32(&format!("tokenizer.ggml.{name}_token_id"));
                let mut eos: Vec<u32> = Vec::new();
                for ending in ["eos", "eot", "eom"].into_iter().filter_map(id) {
                    if !eos.contains(&ending) {
                        eos.push(ending);
                    }
                }
                SpecialTokens {
                    bos: id("bos"),
                    eos,
                }
            }
            Form::Folder { config, generation } => {
                let ids = |first: &Option<TokenIds>, second: &Option<TokenIds>| {
                    first
                        .as_ref()
                        .or(second.as_ref())
                        .map_or(Vec::new(), TokenIds::to_vec)
                };
                let bos = ids(&generation.bos_token_id, &config.bos_token_id)
                    .first()
                    .copied();
                SpecialTokens {
                    bos,
                    eos: ids(&generation.eos_token_id, &config.eos_token_id),
                }
            }
        }
    }

    pub fn outline(&self) -> Outline {
        match &self.form {
            Form::Gguf(metadata) => {
                let arch = metadata
                    .str("general.architecture")
                    .unwrap_or("unknown")
                    .to_owned();
                let size = |key: &str| metadata.u64(&format!("{arch}.{key}"));
                let (layers, context) = (size("block_count"), size("context_length"));
                Outline {
                    layers,
                    experts: size("expert_count"),
                    context,
                    arch,
                }
            }
            Form::Folder { config, .. } => Outline {
                arch: config
                    .model_type
                    .clone()
                    .unwrap_or_else(|| "unknown".to_owned()),
                layers: config.num_hidden_layers,
                experts: config.num_experts.or(config.num_local_experts),
                context: config.max_position_embeddings,
            },
        }
    }
}

type OpenFile<'a> = (BufReader<Box<dyn Read + 'a>>, SourceFile);

fn open_file<'a>(source: &'a ModelFiles, path: &Path) -> Result<OpenFile<'a>, ModelError> {
    let (file, len) = source.open(path).map_err(|e| ModelError::io(path, e))?;
    let found = SourceFile {
        path: path.to_path_buf(),
        len,
    };
    Ok((BufReader::with_capacity(READ_BYTES, file), found))
}

fn insert_name(names: &mut HashSet<String>, name: &str, file: &Path) -> Result<(), ModelError> {
    if names.insert(name.to_owned()) {
        return Ok(());
    }
    let detail = format!(
        "tensor {} is in another file of the model too",
        Quoted::new(name)
    );
    Err(ModelError::Shards {
        path: file.to_path_buf(),
        detail,
    })
}
