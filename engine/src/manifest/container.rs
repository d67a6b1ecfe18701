//! Files of a model, opened but not judged: every tensor and all metadata, whether or not we can
//! compute with them.
//!
//! `inspect` and the tokenizer need no more; [`super::Manifest`] is made from one.

use super::error::{ModelError, Quoted};
use super::gguf::{self, Metadata};
use super::hf::{HfConfig, HfGeneration, TokenIds};
use super::safetensors;
use super::stored::StoredTensor;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Files of one model: far more than the largest has, far fewer than a `u16` counts.
const FILES_MAX: u64 = 10_000;
const JSON_BYTES_MAX: u64 = 64 << 20;
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
}

impl Container {
    /// Opens a GGUF file (all its shards if it is the first of several) or a folder with
    /// `config.json`. Reads headers only.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let meta = fs::metadata(path).map_err(|e| ModelError::io(path, e))?;
        if meta.is_dir() {
            return Self::open_folder(path);
        }
        if !meta.is_file() {
            let found = "neither a file nor a folder";
            return Err(ModelError::NotAModel {
                path: path.to_path_buf(),
                found,
            });
        }
        let mut magic = Vec::new();
        let mut file = File::open(path).map_err(|e| ModelError::io(path, e))?;
        let read = (&mut file)
            .take(gguf::MAGIC.len() as u64)
            .read_to_end(&mut magic);
        read.map_err(|e| ModelError::io(path, e))?;
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
        Self::open_gguf(path)
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

    fn open_gguf(path: &Path) -> Result<Self, ModelError> {
        let (first, header) = read_gguf(path)?;
        let mut files = vec![first];
        let mut tensors = header.tensors;
        let metadata = header.metadata;
        let count = metadata.u64("split.count").unwrap_or(1);
        if count > 1 {
            let shards = shard_paths(path, metadata.u64("split.no").unwrap_or(0), count)?;
            let mut names: HashSet<String> = tensors.iter().map(|t| t.name.clone()).collect();
            for (index, shard) in shards.iter().enumerate().skip(1) {
                let (file, header) = read_gguf(shard)?;
                if header.metadata.u64("split.no") != Some(index as u64) {
                    let detail =
                        format!("split.no is not {index}; the shard is from another model");
                    return Err(ModelError::Shards {
                        path: shard.clone(),
                        detail,
                    });
                }
                files.push(file);
                for mut tensor in header.tensors {
                    tensor.file = index as u16;
                    insert_name(&mut names, &tensor.name, shard)?;
                    tensors.push(tensor);
                }
            }
            check_shard_total(path, &metadata, tensors.len() as u64)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            files,
            tensors,
            form: Form::Gguf(metadata),
        })
    }

    fn open_folder(path: &Path) -> Result<Self, ModelError> {
        let Some(config) = read_json(&path.join("config.json"))? else {
            let found = "a folder without config.json";
            return Err(ModelError::NotAModel {
                path: path.to_path_buf(),
                found,
            });
        };
        let generation = read_json(&path.join("generation_config.json"))?.unwrap_or_default();
        let index: Option<HfIndex> = read_json(&path.join("model.safetensors.index.json"))?;
        let single = path.join("model.safetensors");
        let (files, tensors) = match index {
            _ if single.exists() => read_safetensors(&[single])?,
            Some(index) => read_indexed(path, &index)?,
            None => read_safetensors(&list_safetensors(path)?)?,
        };
        let form = Form::Folder { config, generation };
        Ok(Self {
            path: path.to_path_buf(),
            files,
            tensors,
            form,
        })
    }
}

/// `model.safetensors.index.json`: which file holds which tensor.
#[derive(serde::Deserialize)]
struct HfIndex {
    weight_map: BTreeMap<String, String>,
}

fn open_file(path: &Path) -> Result<(BufReader<File>, SourceFile), ModelError> {
    let file = File::open(path).map_err(|e| ModelError::io(path, e))?;
    let len = file.metadata().map_err(|e| ModelError::io(path, e))?.len();
    let source = SourceFile {
        path: path.to_path_buf(),
        len,
    };
    Ok((BufReader::with_capacity(READ_BYTES, file), source))
}

fn read_gguf(path: &Path) -> Result<(SourceFile, gguf::Header), ModelError> {
    let (reader, source) = open_file(path)?;
    let header = gguf::Header::read(reader, source.len);
    Ok((source, header.map_err(|e| ModelError::header(path, e))?))
}

/// Paths of all shards, from the name of the first: `NAME-00001-of-00003.gguf`.
fn shard_paths(path: &Path, number: u64, count: u64) -> Result<Vec<PathBuf>, ModelError> {
    let refuse = |detail| ModelError::Shards {
        path: path.to_path_buf(),
        detail,
    };
    if count > FILES_MAX {
        return Err(refuse(format!(
            "split.count is {count}, expected at most {FILES_MAX}"
        )));
    }
    let suffix = |number: u64| format!("-{number:05}-of-{count:05}.gguf");
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let Some(stem) = name.strip_suffix(&suffix(number.saturating_add(1))) else {
        let expected = suffix(number.saturating_add(1));
        return Err(refuse(format!(
            "is one of {count} shards, so its name must end in {expected}"
        )));
    };
    if number != 0 {
        let first = format!("{stem}{}", suffix(1));
        return Err(refuse(format!(
            "is shard {} of {count}; open {first}",
            number + 1
        )));
    }
    Ok((1..=count)
        .map(|number| path.with_file_name(format!("{stem}{}", suffix(number))))
        .collect())
}

fn check_shard_total(path: &Path, metadata: &Metadata, found: u64) -> Result<(), ModelError> {
    match metadata.u64("split.tensors.count") {
        Some(expected) if expected != found => {
            let detail = format!("the shards hold {found} tensors, expected {expected}");
            Err(ModelError::Shards {
                path: path.to_path_buf(),
                detail,
            })
        }
        _ => Ok(()),
    }
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

/// Reads a JSON file; `None` if there is no such file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ModelError> {
    let (reader, source) = match open_file(path) {
        Ok(opened) => opened,
        Err(ModelError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (found, max) = (source.len, JSON_BYTES_MAX);
    if found > max {
        return Err(ModelError::TooLarge {
            path: source.path,
            found,
            max,
        });
    }
    let mut text = Vec::new();
    reader
        .take(max)
        .read_to_end(&mut text)
        .map_err(|e| ModelError::io(path, e))?;
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let detail = Quoted::new(&error.to_string()).to_string();
            Err(ModelError::Json {
                path: source.path,
                detail,
            })
        }
    }
}

type Opened = (Vec<SourceFile>, Vec<StoredTensor>);

/// Reads the headers of all `paths`; no tensor may be in two of them.
fn read_safetensors(paths: &[PathBuf]) -> Result<Opened, ModelError> {
    let (mut files, mut tensors) = (Vec::new(), Vec::new());
    let mut names = HashSet::new();
    for path in paths {
        let (reader, source) = open_file(path)?;
        let header = safetensors::read_header(reader, source.len);
        for mut tensor in header.map_err(|e| ModelError::header(path, e))? {
            tensor.file = files.len() as u16;
            insert_name(&mut names, &tensor.name, path)?;
            tensors.push(tensor);
        }
        files.push(source);
    }
    Ok((files, tensors))
}

/// Reads the files that the index names and checks that each holds what the index says.
fn read_indexed(folder: &Path, index: &HfIndex) -> Result<Opened, ModelError> {
    let path = folder.join("model.safetensors.index.json");
    let refuse = |detail| ModelError::Shards {
        path: path.clone(),
        detail,
    };
    let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    if names.len() as u64 > FILES_MAX {
        return Err(refuse(format!(
            "names {} files, expected at most {FILES_MAX}",
            names.len()
        )));
    }
    let plain = |name: &&&str| {
        Path::new(name)
            .file_name()
            .is_none_or(|last| last != **name)
    };
    if let Some(name) = names.iter().find(plain) {
        let name = Quoted::new(name);
        return Err(refuse(format!(
            "names {name}, expected the name of a file in its folder"
        )));
    }
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let (files, tensors) = read_safetensors(&paths)?;
    let held: HashSet<(&str, &str)> = tensors
        .iter()
        .map(|tensor| {
            let name = files[tensor.file as usize].path.file_name();
            (
                tensor.name.as_str(),
                name.and_then(|name| name.to_str()).unwrap_or_default(),
            )
        })
        .collect();
    for (tensor, file) in &index.weight_map {
        if !held.contains(&(tensor.as_str(), file.as_str())) {
            let (tensor, file) = (Quoted::new(tensor), Quoted::new(file));
            return Err(refuse(format!(
                "says that {file} holds tensor {tensor}, which it does not"
            )));
        }
    }
    Ok((files, tensors))
}

/// Every `*.safetensors` of a folder without an index, in the order of their names.
fn list_safetensors(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| ModelError::io(folder, e))? {
        let path = entry.map_err(|e| ModelError::io(folder, e))?.path();
        if path.extension().is_some_and(|ext| ext == "safetensors") {
            paths.push(path);
        }
    }
    let (found, max) = (paths.len() as u64, FILES_MAX);
    if found > max {
        let detail = format!("has {found} safetensors files, expected at most {max}");
        return Err(ModelError::Shards {
            path: folder.to_path_buf(),
            detail,
        });
    }
    paths.sort();
    Ok(paths)
}
