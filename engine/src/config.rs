//! Shape of a model: what the graph needs to know, whatever file it came from.

use serde::Serialize;

/// Architecture, named as GGUF names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    Llama,
    /// As llama, with biases on q, k and v.
    Qwen2,
    /// As llama, with norms on the heads of q and k.
    Qwen3,
    /// As qwen3, with experts instead of one feed-forward part.
    Qwen3Moe,
}

impl Arch {
    /// Every architecture that the graph can build, in the order of the messages.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Qwen3Moe];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3moe",
        }
    }
}

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeStyle {
    /// Elements 2i and 2i+1 (llama in GGUF, whose q and k rows are permuted for it).
    Adjacent,
    /// Elements i and i + dims/2 (Hugging Face folders, qwen).
    Halves,
}

/// Rotary position embedding. Source: Su et al., RoFormer, 2021.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    pub style: RopeStyle,
    /// Base of the frequencies.
    pub theta: f32,
    /// Rotated elements of each head, even, at most `head_dim`.
    pub dims: usize,
    /// Divisor of each of the `dims / 2` frequencies, or empty for all ones.
    pub factors: Vec<f32>,
}

/// Experts of every layer. Source: Qwen3 technical report, 2025, section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Experts {
    /// E: experts of a layer.
    pub count: usize,
    /// Experts that a token picks; at most `count`.
    pub picked: usize,
    /// The weights of a token's picks are scaled to sum to one.
    pub normalised: bool,
}

/// Shape of a model. All sizes are checked to be above zero and to fit together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    pub arch: Arch,
    pub layers: usize,
    /// D: elements of the residual stream.
    pub dim: usize,
    /// H.
    pub heads: usize,
    /// Hkv; H is a multiple of it.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Hidden elements of the feed-forward part, or of one expert.
    pub ffn: usize,
    pub experts: Option<Experts>,
    pub vocab: usize,
    /// Longest context the model was trained for, in tokens.
    pub context: usize,
    pub norm_eps: f32,
    pub rope: Rope,
    /// The output head is the embedding matrix.
    pub tied: bool,
}
