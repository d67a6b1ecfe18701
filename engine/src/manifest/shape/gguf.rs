//! Configuration out of the metadata of a GGUF file.

use super::{Keys, ReadAt, default_head_dim};
use crate::config::{Arch, Experts, ModelConfig, Rope, RopeStyle};
use crate::manifest::arch::ArchRow;
use crate::manifest::container::Container;
use crate::manifest::error::ModelError;
use crate::manifest::gguf::{Metadata, Value};

/// Keys that change what a model computes in ways that no graph of ours does, and the value at
/// which they change nothing.
const NEUTRAL: &[(&str, f64)] = &[
    ("expert_shared_count", 0.0),
    ("expert_group_count", 1.0),
    ("expert_weights_scale", 1.0),
    ("expert_gating_func", 1.0),
    ("leading_dense_block_count", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attention.scale", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("logit_scale", 1.0),
    ("residual_scale", 1.0),
    ("embedding_scale", 1.0),
    ("rope.scaling.attn_factor", 1.0),
    ("use_parallel_residual", 0.0),
];

/// Typed access to the keys of one architecture.
struct Reader<'a> {
    keys: &'a Keys,
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Reader<'_> {
    fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let key = format!("{}.{key}", self.prefix);
        let Some(value) = self.metadata.get(&key) else {
            return Ok(None);
        };
        let Some(number) = value.as_u64() else {
            return Err(self.keys.bad(&key, value.describe(), "one whole number"));
        };
        self.keys.size(&key, number).map(Some)
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        let found = self.optional_size(key)?;
        let full = format!("{}.{key}", self.prefix);
        found.ok_or_else(|| self.keys.missing(&full, "a whole number"))
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let key = format!("{}.{key}", self.prefix);
        let Some(value) = self.metadata.get(&key) else {
            return Ok(None);
        };
        let number = match value {
            Value::Bool(value) => Some(f64::from(u8::from(*value))),
            Value::F64(value) => Some(*value),
            value => value
                .as_f32()
                .map(f64::from)
                .or(value.as_i64().map(|n| n as f64)),
        };
        number
            .map(Some)
            .ok_or_else(|| self.keys.bad(&key, value.describe(), "a number"))
    }

    fn optional_positive(&self, key: &str) -> Result<Option<f32>, ModelError> {
        let full = format!("{}.{key}", self.prefix);
        self.optional_number(key)?
            .map(|number| self.keys.positive(&full, number))
            .transpose()
    }

    fn check_neutral(&self) -> Result<(), ModelError> {
        for &(key, neutral) in NEUTRAL {
            match self.optional_number(key)? {
                Some(number) if number != neutral => {
                    let key = format!("{}.{key}", self.prefix);
                    return Err(self
                        .keys
                        .bad(&key, number, format!("{neutral} or no such key")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Factor by which positions are divided.
    fn linear_scale(&self) -> Result<f32, ModelError> {
        let key = format!("{}.rope.scaling.type", self.prefix);
        match self.metadata.str(&key) {
            None => Ok(self.optional_positive("rope.scale_linear")?.unwrap_or(1.0)),
            Some("none") => Ok(1.0),
            Some("linear") => Ok(self
                .optional_positive("rope.scaling.factor")?
                .unwrap_or(1.0)),
            Some(other) => Err(self.keys.bad(&key, format!("{other:?}"), "none or linear")),
        }
    }
}

pub(super) fn config(
    keys: &Keys,
    metadata: &Metadata,
    row: &ArchRow,
    container: &Container,
    read_at: &mut ReadAt<'_>,
) -> Result<ModelConfig, ModelError> {
    if container.tensors.is_empty() {
        return Err(ModelError::NoTensors {
            path: keys.path().to_path_buf(),
        });
    }
    let reader = Reader {
        keys,
        metadata,
        prefix: row.arch.name(),
    };
    reader.check_neutral()?;
    let dim = reader.size("embedding_length")?;
    let heads = reader.size("attention.head_count")?;
    let kv_heads = reader.optional_size("attention.head_count_kv")?;
    let head_dim = head_dim(&reader, dim, heads)?;
    let experts = experts(&reader, row.arch)?;
    let ffn = match experts {
        Some(_) => reader.size("expert_feed_forward_length")?,
        None => reader.size("feed_forward_length")?,
    };
    let has = |name: &str| container.tensors.iter().any(|tensor| tensor.name == name);
    Ok(ModelConfig {
        arch: row.arch,
        layers: reader.size("block_count")?,
        dim,
        heads,
        kv_heads: kv_heads.unwrap_or(heads),
        head_dim,
        ffn,
        experts,
        vocab: vocab(keys, container)?,
        context: context(&reader)?,
        norm_eps: norm_eps(&reader)?,
        rope: rope(&reader, row.gguf_rope, head_dim, container, read_at)?,
        tied: !has("output.weight"),
    })
}

/// Experts where the architecture has them; elsewhere there must be none.
fn experts(reader: &Reader<'_>, arch: Arch) -> Result<Option<Experts>, ModelError> {
    let (keys, prefix) = (reader.keys, reader.prefix);
    if arch != Arch::Qwen3Moe {
        let found = reader.optional_number("expert_count")?;
        return match found.filter(|&count| count != 0.0) {
            Some(count) => {
                let key = format!("{prefix}.expert_count");
                Err(keys.bad(&key, count, "0 or no such key"))
            }
            None => Ok(None),
        };
    }
    let count = reader.size("expert_count")?;
    let picked = reader.size("expert_used_count")?;
    let normalised = reader.optional_number("expert_weights_norm")?;
    Ok(Some(Experts {
        count,
        picked: keys.picked(&format!("{prefix}.expert_used_count"), picked, count)?,
        normalised: normalised != Some(0.0),
    }))
}

fn head_dim(reader: &Reader<'_>, dim: usize, heads: usize) -> Result<usize, ModelError> {
    let keys = reader.keys;
    let head_dim = match reader.optional_size("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => default_head_dim(keys, dim, heads)?,
    };
    match reader.optional_size("attention.value_length")? {
        Some(other) if other != head_dim => {
            let key = format!("{}.attention.value_length", reader.prefix);
            Err(keys.bad(&key, other, format!("{head_dim}, as for keys")))
        }
        _ => keys.head_dim(head_dim),
    }
}

/// Tokens of the context, all of which every layer must attend to.
fn context(reader: &Reader<'_>) -> Result<usize, ModelError> {
    let context = reader.size("context_length")?;
    match reader.optional_number("attention.sliding_window")? {
        Some(window) if window > 0.0 && window < context as f64 => {
            let key = format!("{}.attention.sliding_window", reader.prefix);
            Err(reader
                .keys
                .bad(&key, window, "no window within the context"))
        }
        _ => Ok(context),
    }
}

fn norm_eps(reader: &Reader<'_>) -> Result<f32, ModelError> {
    const KEY: &str = "attention.layer_norm_rms_epsilon";
    let full = format!("{}.{KEY}", reader.prefix);
    let found = reader.optional_positive(KEY)?;
    found.ok_or_else(|| reader.keys.missing(&full, "a number above zero"))
}

fn rope(
    reader: &Reader<'_>,
    style: RopeStyle,
    head_dim: usize,
    container: &Container,
    read_at: &mut ReadAt<'_>,
) -> Result<Rope, ModelError> {
    let dims = reader.optional_size("rope.dimension_count")?;
    let dims = reader.keys.rope_dims(dims.unwrap_or(head_dim), head_dim)?;
    let theta = reader.optional_positive("rope.freq_base")?;
    Ok(Rope {
        style,
        theta: theta.unwrap_or(10_000.0),
        dims,
        factors: factors(reader, container, dims, read_at)?,
    })
}

/// Rows of the embedding: a file may pad them beyond its list of tokens.
fn vocab(keys: &Keys, container: &Container) -> Result<usize, ModelError> {
    const NAME: &str = "token_embd.weight";
    let embedding = container.tensors.iter().find(|tensor| tensor.name == NAME);
    match embedding.map(|tensor| tensor.shape.as_slice()) {
        Some(&[rows, _]) => keys.size("rows of token_embd.weight", rows),
        Some(shape) => Err(keys.bad(
            "shape of token_embd.weight",
            format!("{shape:?}"),
            "two sizes",
        )),
        None => Err(keys.missing("tensor token_embd.weight", "a row for every token")),
    }
}

/// Divisors of the frequencies: the tensor `rope_freqs.weight` times the linear scale.
fn factors(
    reader: &Reader<'_>,
    container: &Container,
    dims: usize,
    read_at: &mut ReadAt<'_>,
) -> Result<Vec<f32>, ModelError> {
    const NAME: &str = "rope_freqs.weight";
    let scale = reader.linear_scale()?;
    let Some(tensor) = container.tensors.iter().find(|tensor| tensor.name == NAME) else {
        return Ok(if scale == 1.0 {
            Vec::new()
        } else {
            vec![scale; dims / 2]
        });
    };
    let path = &container.files[tensor.file as usize].path;
    if tensor.type_name != "F32" || tensor.shape.as_slice() != [dims as u64 / 2] {
        let found = format!("{} {:?}", tensor.type_name, tensor.shape);
        return Err(reader.keys.bad(
            "tensor rope_freqs.weight",
            found,
            format!("F32 [{}]", dims / 2),
        ));
    }
    let mut bytes = vec![0; tensor.len as usize];
    read_at(tensor.file, tensor.offset, &mut bytes).map_err(|e| ModelError::io(path, e))?;
    let mut factors = Vec::with_capacity(dims / 2);
    for four in bytes.as_chunks().0 {
        let found = f32::from_le_bytes(*four);
        if !found.is_finite() || found <= 0.0 {
            let (name, expected) = (NAME, "numbers above zero");
            return Err(ModelError::Contents {
                path: path.clone(),
                name,
                found,
                expected,
            });
        }
        factors.push(found * scale);
    }
    Ok(factors)
}
