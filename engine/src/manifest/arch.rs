//! One table per architecture: which tensors a model has, under which names, in which shapes.
//!
//! To add an architecture: a value of [`Arch`], a row in [`ARCHES`], its roles in [`Role`], and
//! what the configuration reader must refuse or fill in for it.

use crate::config::{Arch, ModelConfig, RopeStyle};

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    TokenEmbd,
    OutputNorm,
    Output,
    AttnNorm,
    /// Norms of every head of q and of k.
    QNorm,
    KNorm,
    QBias,
    KBias,
    VBias,
    Q,
    K,
    V,
    O,
    FfnNorm,
    Gate,
    Up,
    Down,
    /// Scores of the experts.
    Router,
    ExpertGate,
    ExpertUp,
    ExpertDown,
}

impl Role {
    /// One tensor per expert.
    pub const fn is_expert(self) -> bool {
        matches!(self, Self::ExpertGate | Self::ExpertUp | Self::ExpertDown)
    }
}

/// A size that the configuration gives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Axis {
    /// A vector: one row.
    One,
    Dim,
    Head,
    Q,
    Kv,
    Ffn,
    Vocab,
    Experts,
}

impl Axis {
    pub(super) fn size(self, config: &ModelConfig) -> usize {
        match self {
            Self::One => 1,
            Self::Dim => config.dim,
            Self::Head => config.head_dim,
            Self::Q => config.heads * config.head_dim,
            Self::Kv => config.kv_heads * config.head_dim,
            Self::Ffn => config.ffn,
            Self::Vocab => config.vocab,
            Self::Experts => config.experts.map_or(0, |experts| experts.count),
        }
    }
}

/// When a tensor must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Always,
    /// Unless the head is the embedding.
    Untied,
    Optional,
}

/// One tensor of the model or of each layer.
#[derive(Debug)]
pub(super) struct RoleRow {
    pub role: Role,
    /// Name in GGUF and in a folder; `{}` stands for the layer and `{e}` for the expert. A GGUF
    /// file holds all experts of a layer in one tensor, a folder holds one each.
    pub gguf: &'static str,
    pub hf: &'static str,
    pub rows: Axis,
    pub cols: Axis,
    pub need: Need,
}

impl RoleRow {
    pub(super) fn per_layer(&self) -> bool {
        self.gguf.contains("{}")
    }

    pub(super) fn is_vector(&self) -> bool {
        matches!(self.rows, Axis::One)
    }
}

/// One architecture.
#[derive(Debug)]
pub(super) struct ArchRow {
    pub arch: Arch,
    /// `architectures[0]` of `config.json`.
    pub hf: &'static str,
    /// Which elements rotate together in a GGUF file; in folders it is always the halves.
    pub gguf_rope: RopeStyle,
    /// Tables of tensors that together make the model.
    pub roles: &'static [&'static [RoleRow]],
}

pub(super) const ARCHES: &[ArchRow] = &[
    ArchRow {
        arch: Arch::Llama,
        hf: "LlamaForCausalLM",
        gguf_rope: RopeStyle::Adjacent,
        roles: &[AROUND, ATTENTION, MAYBE_BIASES, FFN],
    },
    ArchRow {
        arch: Arch::Qwen2,
        hf: "Qwen2ForCausalLM",
        gguf_rope: RopeStyle::Halves,
        roles: &[AROUND, ATTENTION, BIASES, FFN],
    },
    ArchRow {
        arch: Arch::Qwen3,
        hf: "Qwen3ForCausalLM",
        gguf_rope: RopeStyle::Halves,
        roles: &[AROUND, ATTENTION, HEAD_NORMS, MAYBE_BIASES, FFN],
    },
    ArchRow {
        arch: Arch::Qwen3Moe,
        hf: "Qwen3MoeForCausalLM",
        gguf_rope: RopeStyle::Halves,
        roles: &[AROUND, ATTENTION, HEAD_NORMS, MAYBE_BIASES, EXPERTS],
    },
];

/// Tensors that hold nothing of the model: tables that are computed from the configuration.
const DERIVED: &[&str] = &[
    "rope_freqs.weight",
    ".attn_rot_embd.weight",
    ".rotary_emb.inv_freq",
];

pub(super) fn is_derived(name: &str) -> bool {
    DERIVED.iter().any(|suffix| name.ends_with(suffix))
}

/// Every name that `found` could have had, for the message.
pub(super) fn supported() -> String {
    let names: Vec<_> = ARCHES
        .iter()
        .map(|row| format!("{} ({})", row.arch.name(), row.hf))
        .collect();
    names.join(", ")
}

const fn row(
    role: Role,
    gguf: &'static str,
    hf: &'static str,
    (rows, cols): (Axis, Axis),
    need: Need,
) -> RoleRow {
    RoleRow {
        role,
        gguf,
        hf,
        rows,
        cols,
        need,
    }
}

use Axis::{Dim, Experts, Ffn, Head, Kv, One, Q, Vocab};
use Need::{Always, Optional, Untied};

/// What stands around the layers.
#[rustfmt::skip]
const AROUND: &[RoleRow] = &[
    row(Role::TokenEmbd, "token_embd.weight", "model.embed_tokens.weight", (Vocab, Dim), Always),
    row(Role::OutputNorm, "output_norm.weight", "model.norm.weight", (One, Dim), Always),
    row(Role::Output, "output.weight", "lm_head.weight", (Vocab, Dim), Untied),
];

/// Attention that every family has.
#[rustfmt::skip]
const ATTENTION: &[RoleRow] = &[
    row(Role::AttnNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", (One, Dim), Always),
    row(Role::Q, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", (Q, Dim), Always),
    row(Role::K, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", (Kv, Dim), Always),
    row(Role::V, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight", (Kv, Dim), Always),
    row(Role::O, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight", (Dim, Q), Always),
];

/// Biases of q, k and v, where the model says so.
#[rustfmt::skip]
const MAYBE_BIASES: &[RoleRow] = &[
    row(Role::QBias, "blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", (One, Q), Optional),
    row(Role::KBias, "blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", (One, Kv), Optional),
    row(Role::VBias, "blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", (One, Kv), Optional),
];

/// Biases of q, k and v.
#[rustfmt::skip]
const BIASES: &[RoleRow] = &[
    row(Role::QBias, "blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", (One, Q), Always),
    row(Role::KBias, "blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", (One, Kv), Always),
    row(Role::VBias, "blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", (One, Kv), Always),
];

/// Norms over each head of q and k.
#[rustfmt::skip]
const HEAD_NORMS: &[RoleRow] = &[
    row(Role::QNorm, "blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight", (One, Head), Always),
    row(Role::KNorm, "blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight", (One, Head), Always),
];

/// Feed-forward part of a dense layer.
#[rustfmt::skip]
const FFN: &[RoleRow] = &[
    row(Role::FfnNorm, "blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight", (One, Dim), Always),
    row(Role::Gate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight", (Ffn, Dim), Always),
    row(Role::Up, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight", (Ffn, Dim), Always),
    row(Role::Down, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight", (Dim, Ffn), Always),
];

/// Router and experts of a layer.
#[rustfmt::skip]
const EXPERTS: &[RoleRow] = &[
    row(Role::FfnNorm, "blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight", (One, Dim), Always),
    row(Role::Router, "blk.{}.ffn_gate_inp.weight", "model.layers.{}.mlp.gate.weight", (Experts, Dim), Always),
    row(Role::ExpertGate, "blk.{}.ffn_gate_exps.weight", "model.layers.{}.mlp.experts.{e}.gate_proj.weight", (Ffn, Dim), Always),
    row(Role::ExpertUp, "blk.{}.ffn_up_exps.weight", "model.layers.{}.mlp.experts.{e}.up_proj.weight", (Ffn, Dim), Always),
    row(Role::ExpertDown, "blk.{}.ffn_down_exps.weight", "model.layers.{}.mlp.experts.{e}.down_proj.weight", (Dim, Ffn), Always),
];
