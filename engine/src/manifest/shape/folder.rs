//! Configuration out of the `config.json` of a folder.

use super::{Keys, default_head_dim};
use crate::config::{Arch, Experts, ModelConfig, Rope, RopeStyle};
use crate::manifest::arch::ArchRow;
use crate::manifest::error::{ModelError, Quoted};
use crate::manifest::hf::{HfConfig, HfRope};

pub(super) fn config(keys: &Keys, hf: &HfConfig, row: &ArchRow) -> Result<ModelConfig, ModelError> {
    refuse_unknown(keys, hf)?;
    let size = |key: &str, value: Option<u64>| match value {
        Some(value) => keys.size(key, value),
        None => Err(keys.missing(key, "a whole number")),
    };
    let dim = size("hidden_size", hf.hidden_size)?;
    let heads = size("num_attention_heads", hf.num_attention_heads)?;
    let head_dim = match hf.head_dim {
        Some(value) => keys.size("head_dim", value)?,
        None => default_head_dim(keys, dim, heads)?,
    };
    let experts = experts(keys, hf, row.arch)?;
    let ffn = match experts {
        Some(_) => size("moe_intermediate_size", hf.moe_intermediate_size)?,
        None => size("intermediate_size", hf.intermediate_size)?,
    };
    let kv_heads = hf
        .num_key_value_heads
        .map(|value| keys.size("num_key_value_heads", value));
    Ok(ModelConfig {
        arch: row.arch,
        layers: size("num_hidden_layers", hf.num_hidden_layers)?,
        dim,
        heads,
        kv_heads: kv_heads.transpose()?.unwrap_or(heads),
        head_dim,
        ffn,
        experts,
        vocab: size("vocab_size", hf.vocab_size)?,
        context: size("max_position_embeddings", hf.max_position_embeddings)?,
        norm_eps: keys.positive("rms_norm_eps", hf.rms_norm_eps.unwrap_or(1e-6))?,
        rope: rope(keys, hf, head_dim)?,
        tied: hf.tie_word_embeddings.unwrap_or(false),
    })
}

/// Experts where the architecture has them; elsewhere there must be none.
fn experts(keys: &Keys, hf: &HfConfig, arch: Arch) -> Result<Option<Experts>, ModelError> {
    let count = hf.num_experts.or(hf.num_local_experts);
    if arch != Arch::Qwen3Moe {
        return match count.filter(|&count| count > 0) {
            Some(count) => {
                let expected = "a dense model for this architecture";
                Err(keys.bad("num_experts", count, expected))
            }
            None => Ok(None),
        };
    }
    let every = hf.decoder_sparse_step.unwrap_or(1);
    if every != 1 {
        return Err(keys.bad("decoder_sparse_step", every, "1: experts in every layer"));
    }
    let without = hf.mlp_only_layers.as_deref().unwrap_or_default();
    if let Some(layer) = without.first() {
        return Err(keys.bad("mlp_only_layers", layer, "none: experts in every layer"));
    }
    let size = |key: &str, value: Option<u64>| match value {
        Some(value) => keys.size(key, value),
        None => Err(keys.missing(key, "a whole number")),
    };
    let count = size("num_experts", count)?;
    let key = "num_experts_per_tok";
    let picked = keys.picked(key, size(key, hf.num_experts_per_tok)?, count)?;
    Ok(Some(Experts {
        count,
        picked,
        normalised: hf.norm_topk_prob.unwrap_or(false),
    }))
}

/// Refuses what would compute something else without a word.
fn refuse_unknown(keys: &Keys, hf: &HfConfig) -> Result<(), ModelError> {
    if let Some(quantization) = &hf.quantization_config {
        let method = quantization.quant_method.as_deref().unwrap_or("unnamed");
        let found = Quoted::new(method);
        return Err(keys.bad("quantization_config.quant_method", found, "plain weights"));
    }
    let act = hf.hidden_act.as_deref().unwrap_or("silu");
    if !matches!(act, "silu" | "swish") {
        return Err(keys.bad("hidden_act", Quoted::new(act), "silu"));
    }
    if let Some(window) = hf.sliding_window
        && hf.use_sliding_window != Some(false)
        && hf
            .max_position_embeddings
            .is_none_or(|context| window < context)
    {
        return Err(keys.bad("sliding_window", window, "no window within the context"));
    }
    Ok(())
}

fn rope(keys: &Keys, hf: &HfConfig, head_dim: usize) -> Result<Rope, ModelError> {
    let scaling = hf.rope();
    let theta = scaling.rope_theta.or(hf.rope_theta).unwrap_or(10_000.0);
    let theta = keys.positive("rope_theta", theta)?;
    let partial = scaling
        .partial_rotary_factor
        .or(hf.partial_rotary_factor)
        .unwrap_or(1.0);
    let partial = keys.positive("partial_rotary_factor", partial)?;
    let dims = keys.rope_dims((head_dim as f32 * partial) as usize, head_dim)?;
    let kind = scaling
        .rope_type
        .as_deref()
        .or(scaling.kind.as_deref())
        .unwrap_or("default");
    let factors = match kind {
        "default" => Vec::new(),
        "linear" => {
            let factor = number(keys, "factor", scaling.factor)?;
            vec![factor as f32; dims / 2]
        }
        "llama3" => llama3_factors(keys, &scaling, theta, dims)?,
        other => {
            let found = Quoted::new(other);
            return Err(keys.bad("rope_type", found, "default, linear or llama3"));
        }
    };
    Ok(Rope {
        style: RopeStyle::Halves,
        theta,
        dims,
        factors,
    })
}

fn number(keys: &Keys, key: &str, value: Option<f64>) -> Result<f64, ModelError> {
    let value = value.ok_or_else(|| keys.missing(key, "a number for this rope_type"))?;
    keys.positive(key, value)?;
    Ok(value)
}

/// Divisors of Llama 3.1: long waves are stretched by `factor`, short ones kept, and those between
/// are blended.
///
/// Source: Llama 3.1 reference code, `apply_scaling`.
fn llama3_factors(
    keys: &Keys,
    scaling: &HfRope,
    theta: f32,
    dims: usize,
) -> Result<Vec<f32>, ModelError> {
    let factor = number(keys, "factor", scaling.factor)?;
    let low = number(keys, "low_freq_factor", scaling.low_freq_factor)?;
    let high = number(keys, "high_freq_factor", scaling.high_freq_factor)?;
    let key = "original_max_position_embeddings";
    let trained = number(
        keys,
        key,
        scaling.original_max_position_embeddings.map(|n| n as f64),
    )?;
    if high <= low {
        return Err(keys.bad(
            "high_freq_factor",
            high,
            format!("above low_freq_factor {low}"),
        ));
    }
    let divisor = |i: usize| {
        let frequency = f64::from(theta).powf(-2.0 * i as f64 / dims as f64);
        let turns = trained * frequency / std::f64::consts::TAU;
        let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - kept) / factor + kept)) as f32
    };
    Ok((0..dims / 2).map(divisor).collect())
}
