//! A Hugging Face folder: `config.json` and one or more safetensors files.

use super::{Container, FILES_MAX, Form, SourceFile, insert_name, open_file};
use crate::manifest::error::{ModelError, Quoted};
use crate::manifest::files::ModelFiles;
use crate::manifest::safetensors;
use crate::manifest::stored::StoredTensor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

const JSON_BYTES_MAX: u64 = 64 << 20;

/// `model.safetensors.index.json`: which file holds which tensor.
#[derive(Deserialize)]
struct HfIndex {
    weight_map: BTreeMap<String, String>,
}

/// Opens a folder with `config.json`; without weights it has no tensors.
pub(super) fn open(path: &Path, source: &ModelFiles) -> Result<Container, ModelError> {
    let Some(config) = read_json(source, &path.join("config.json"))? else {
        let found = "a folder without config.json";
        return Err(ModelError::NotAModel {
            path: path.to_path_buf(),
            found,
        });
    };
    let generation = read_json(source, &path.join("generation_config.json"))?.unwrap_or_default();
    let index: Option<HfIndex> = read_json(source, &path.join("model.safetensors.index.json"))?;
    let single = path.join("model.safetensors");
    let (files, tensors) = match index {
        _ if source.exists(&single) => read_safetensors(source, &[single])?,
        Some(index) => read_indexed(source, path, &index)?,
        None => read_safetensors(source, &list_safetensors(source, path)?)?,
    };
    let form = Form::Folder { config, generation };
    Ok(Container {
        path: path.to_path_buf(),
        files,
        tensors,
        form,
        source: source.clone(),
    })
}

/// Reads a JSON file; `None` if there is no such file.
fn read_json<T: DeserializeOwned>(
    files: &ModelFiles,
    path: &Path,
) -> Result<Option<T>, ModelError> {
    let (reader, source) = match open_file(files, path) {
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
fn read_safetensors(source: &ModelFiles, paths: &[PathBuf]) -> Result<Opened, ModelError> {
    let (mut files, mut tensors) = (Vec::new(), Vec::new());
    let mut names = HashSet::new();
    for path in paths {
        let (reader, file) = open_file(source, path)?;
        let header = safetensors::read_header(reader, file.len);
        for mut tensor in header.map_err(|e| ModelError::header(path, e))? {
            tensor.file = files.len() as u32;
            insert_name(&mut names, &tensor.name, path)?;
            tensors.push(tensor);
        }
        files.push(file);
    }
    Ok((files, tensors))
}

/// Reads the files that the index names and checks that each holds what the index says.
fn read_indexed(source: &ModelFiles, folder: &Path, index: &HfIndex) -> Result<Opened, ModelError> {
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
    let (files, tensors) = read_safetensors(source, &paths)?;
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
fn list_safetensors(source: &ModelFiles, folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let listed = source.list(folder, ".safetensors");
    let mut paths = listed.map_err(|e| ModelError::io(folder, e))?;
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
