//! `config.json` and `generation_config.json` of a Hugging Face folder.

use serde::Deserialize;

/// The keys that we use; every other key is left alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HfConfig {
    pub architectures: Option<Vec<String>>,
    pub model_type: Option<String>,
    pub hidden_size: Option<u64>,
    pub num_hidden_layers: Option<u64>,
    pub num_attention_heads: Option<u64>,
    pub num_key_value_heads: Option<u64>,
    pub head_dim: Option<u64>,
    pub intermediate_size: Option<u64>,
    pub vocab_size: Option<u64>,
    pub max_position_embeddings: Option<u64>,
    pub rms_norm_eps: Option<f64>,
    pub rope_theta: Option<f64>,
    /// Older files say `rope_scaling`, newer ones `rope_parameters` with the theta inside.
    pub rope_parameters: Option<HfRope>,
    pub rope_scaling: Option<HfRope>,
    pub partial_rotary_factor: Option<f64>,
    pub tie_word_embeddings: Option<bool>,
    pub hidden_act: Option<String>,
    pub sliding_window: Option<u64>,
    pub use_sliding_window: Option<bool>,
    pub num_experts: Option<u64>,
    pub num_local_experts: Option<u64>,
    pub num_experts_per_tok: Option<u64>,
    pub moe_intermediate_size: Option<u64>,
    pub norm_topk_prob: Option<bool>,
    /// Every how many layers there are experts.
    pub decoder_sparse_step: Option<u64>,
    /// Layers without experts.
    pub mlp_only_layers: Option<Vec<u64>>,
    pub bos_token_id: Option<TokenIds>,
    pub eos_token_id: Option<TokenIds>,
    pub quantization_config: Option<HfQuantization>,
}

/// How positions are stretched beyond the context of the first training.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HfRope {
    pub rope_type: Option<String>,
    /// Name of `rope_type` in older files.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub rope_theta: Option<f64>,
    pub partial_rotary_factor: Option<f64>,
    pub factor: Option<f64>,
    pub low_freq_factor: Option<f64>,
    pub high_freq_factor: Option<f64>,
    pub original_max_position_embeddings: Option<u64>,
}

/// Weights that are stored in a scheme of their own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HfQuantization {
    pub quant_method: Option<String>,
}

/// What `generation_config.json` adds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HfGeneration {
    pub bos_token_id: Option<TokenIds>,
    pub eos_token_id: Option<TokenIds>,
}

/// One token id or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

impl TokenIds {
    pub fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
        }
    }
}

impl HfConfig {
    /// The scaling of RoPE wherever it stands.
    pub(super) fn rope(&self) -> HfRope {
        self.rope_parameters
            .clone()
            .or_else(|| self.rope_scaling.clone())
            .unwrap_or_default()
    }
}
