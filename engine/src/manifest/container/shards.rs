//! A GGUF file, or a model split into several: `NAME-00001-of-00003.gguf` and so on.

use super::{Container, FILES_MAX, Form, SourceFile, insert_name, open_file};
use crate::manifest::error::ModelError;
use crate::manifest::files::ModelFiles;
use crate::manifest::gguf::{self, Metadata};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Opens a GGUF file; all shards if it is the first of several.
pub(super) fn open(path: &Path, source: &ModelFiles) -> Result<Container, ModelError> {
    let (first, header) = read_gguf(source, path)?;
    let mut files = vec![first];
    let mut tensors = header.tensors;
    let metadata = header.metadata;
    let count = metadata.u64("split.count").unwrap_or(1);
    if count > 1 {
        let shards = shard_paths(path, metadata.u64("split.no").unwrap_or(0), count)?;
        let mut names: HashSet<String> = tensors.iter().map(|t| t.name.clone()).collect();
        for (index, shard) in shards.iter().enumerate().skip(1) {
            let (file, header) = read_gguf(source, shard)?;
            if header.metadata.u64("split.no") != Some(index as u64) {
                let detail = format!("split.no is not {index}; the shard is from another model");
                return Err(ModelError::Shards {
                    path: shard.clone(),
                    detail,
                });
            }
            files.push(file);
            for mut tensor in header.tensors {
                tensor.file = index as u32;
                insert_name(&mut names, &tensor.name, shard)?;
                tensors.push(tensor);
            }
        }
        check_shard_total(path, &metadata, tensors.len() as u64)?;
    }
    Ok(Container {
        path: path.to_path_buf(),
        files,
        tensors,
        form: Form::Gguf(metadata),
        source: source.clone(),
    })
}

fn read_gguf(source: &ModelFiles, path: &Path) -> Result<(SourceFile, gguf::Header), ModelError> {
    let (reader, file) = open_file(source, path)?;
    let header = gguf::Header::read(reader, file.len);
    Ok((file, header.map_err(|e| ModelError::header(path, e))?))
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
