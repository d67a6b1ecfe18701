//! From metadata to [`ModelConfig`]: the same checks for both forms of a model.

mod folder;
mod gguf;

use super::arch::{self, ARCHES, ArchRow};
use super::container::{Container, Form};
use super::error::{ModelError, Quoted};
use crate::config::ModelConfig;
use std::io;
use std::path::{Path, PathBuf};

/// Reads bytes of a file of the container: file, offset, buffer.
pub(super) type ReadAt<'a> = dyn FnMut(u32, u64, &mut [u8]) -> io::Result<()> + 'a;

/// Largest value of any size in a configuration: products of two stay far below 2^63.
const SIZE_MAX: u64 = 1 << 24;

/// Experts of a layer at most: several times what any model has.
const EXPERTS_MAX: usize = 1 << 14;

/// Largest head: the factors of its rotation are computed at open.
const HEAD_DIM_MAX: usize = 1 << 16;

/// Finds the architecture and reads the configuration of a container.
pub(super) fn read(
    container: &Container,
    read_at: &mut ReadAt<'_>,
) -> Result<(&'static ArchRow, ModelConfig), ModelError> {
    let keys = Keys {
        path: key_path(container),
    };
    let (row, config) = match &container.form {
        Form::Gguf(metadata) => {
            let name = metadata.str("general.architecture");
            let Some(name) = name else {
                return Err(keys.missing("general.architecture", "the name of an architecture"));
            };
            let row = ARCHES.iter().find(|row| row.arch.name() == name);
            let row = row.ok_or_else(|| keys.unsupported(name))?;
            (row, gguf::config(&keys, metadata, row, container, read_at)?)
        }
        Form::Folder { config, .. } => {
            let names = config.architectures.as_deref().unwrap_or_default();
            let Some(name) = names.first() else {
                return Err(keys.missing("architectures", "a list with one architecture"));
            };
            let row = ARCHES.iter().find(|row| row.hf == name);
            let row = row.ok_or_else(|| keys.unsupported(name))?;
            (row, folder::config(&keys, config, row)?)
        }
    };
    check_heads(&keys, &config)?;
    Ok((row, config))
}

/// The file that a user would open to see a wrong key.
fn key_path(container: &Container) -> PathBuf {
    match container.form {
        Form::Gguf(_) => container.path.clone(),
        Form::Folder { .. } => container.path.join("config.json"),
    }
}

/// Makes errors about keys, and checks single values.
struct Keys {
    path: PathBuf,
}

impl Keys {
    fn path(&self) -> &Path {
        &self.path
    }

    fn missing(&self, key: &str, expected: &'static str) -> ModelError {
        ModelError::MissingKey {
            path: self.path.clone(),
            key: key.to_owned(),
            expected,
        }
    }

    fn bad(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl std::fmt::Display,
    ) -> ModelError {
        let (found, expected) = (found.to_string(), expected.to_string());
        ModelError::BadKey {
            path: self.path.clone(),
            key: key.to_owned(),
            found,
            expected,
        }
    }

    fn unsupported(&self, name: &str) -> ModelError {
        let (found, supported) = (Quoted::new(name), arch::supported());
        ModelError::Architecture {
            path: self.path.clone(),
            found,
            supported,
        }
    }

    /// A count or length, from one up.
    fn size(&self, key: &str, value: u64) -> Result<usize, ModelError> {
        if value == 0 || value > SIZE_MAX {
            return Err(self.bad(key, value, format!("1 to {SIZE_MAX}")));
        }
        Ok(value as usize)
    }

    fn head_dim(&self, value: usize) -> Result<usize, ModelError> {
        if value > HEAD_DIM_MAX {
            return Err(self.bad("elements of a head", value, format!("1 to {HEAD_DIM_MAX}")));
        }
        Ok(value)
    }

    /// Experts that a token picks out of `count`.
    fn picked(&self, key: &str, value: usize, count: usize) -> Result<usize, ModelError> {
        if value > count || count > EXPERTS_MAX {
            let expected = format!("at most the {count} experts, and those at most {EXPERTS_MAX}");
            return Err(self.bad(key, value, expected));
        }
        Ok(value)
    }

    /// Elements of a head that rotate, in pairs.
    fn rope_dims(&self, value: usize, head_dim: usize) -> Result<usize, ModelError> {
        if value == 0 || !value.is_multiple_of(2) || value > head_dim {
            let expected = format!("an even number up to the head's {head_dim} elements");
            return Err(self.bad("count of rotated elements", value, expected));
        }
        Ok(value)
    }

    /// A finite number above zero.
    fn positive(&self, key: &str, value: f64) -> Result<f32, ModelError> {
        let value = value as f32;
        if !value.is_finite() || value <= 0.0 {
            return Err(self.bad(key, value, "a number above zero"));
        }
        Ok(value)
    }
}

/// Checks that query heads share key and value heads evenly.
fn check_heads(keys: &Keys, config: &ModelConfig) -> Result<(), ModelError> {
    let (heads, kv_heads) = (config.heads, config.kv_heads);
    if heads.is_multiple_of(kv_heads) {
        return Ok(());
    }
    let expected = format!("a divisor of the {heads} heads");
    Err(keys.bad("count of key and value heads", kv_heads, expected))
}

/// Elements of a head when the configuration leaves them out.
fn default_head_dim(keys: &Keys, dim: usize, heads: usize) -> Result<usize, ModelError> {
    if dim < heads || !dim.is_multiple_of(heads) {
        return Err(keys.bad(
            "count of heads",
            heads,
            format!("a divisor of the width {dim}"),
        ));
    }
    Ok(dim / heads)
}
