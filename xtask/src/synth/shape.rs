//! The shapes that can be made, one row each, and the tensors of an architecture.

/// Shape of a model, in the words of GGUF.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Value of `general.architecture`, and the prefix of the keys.
    pub(crate) arch: &'static str,
    pub(crate) layers: u32,
    /// D: elements of the residual stream.
    pub(crate) dim: u32,
    /// H.
    pub(crate) heads: u32,
    /// Hkv; H is a multiple of it.
    pub(crate) kv_heads: u32,
    pub(crate) head_dim: u32,
    /// Hidden elements of the feed-forward part.
    pub(crate) ffn: u32,
    pub(crate) vocab: u32,
    /// In tokens.
    pub(crate) context: u32,
    pub(crate) rope_theta: f32,
    /// Factor by which the context was stretched; the low frequencies are divided by it.
    pub(crate) rope_stretch: Option<f32>,
    pub(crate) norm_eps: f32,
    /// The output head is the embedding matrix.
    pub(crate) tied: bool,
    /// Queries and keys are normalised per head.
    pub(crate) head_norms: bool,
    /// Instead of one feed-forward part per layer.
    pub(crate) experts: Option<Experts>,
}

/// The feed-forward part of a layer as a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Experts {
    pub(crate) count: u32,
    /// Those that a token uses.
    pub(crate) used: u32,
    /// Hidden elements of each.
    pub(crate) width: u32,
}

const SHAPES: [Shape; 7] = [
    Shape {
        name: "tiny",
        arch: "llama",
        layers: 4,
        dim: 128,
        heads: 8,
        kv_heads: 2,
        head_dim: 16,
        ffn: 384,
        vocab: 512,
        context: 2048,
        rope_theta: 10_000.0,
        rope_stretch: None,
        norm_eps: 1e-5,
        tied: false,
        head_norms: false,
        experts: None,
    },
    Shape {
        name: "tiny-moe",
        layers: 3,
        dim: 256,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        ffn: 768,
        vocab: 512,
        context: 2048,
        experts: Some(Experts {
            count: 16,
            used: 4,
            width: 256,
        }),
        ..QWEN_3_MOE
    },
    Shape {
        name: "llama-3.2-1b",
        layers: 16,
        dim: 2048,
        heads: 32,
        head_dim: 64,
        ffn: 8192,
        rope_stretch: Some(32.0),
        tied: true,
        ..LLAMA_3
    },
    Shape {
        name: "llama-3b",
        layers: 28,
        dim: 3072,
        heads: 24,
        ffn: 8192,
        rope_stretch: Some(32.0),
        tied: true,
        ..LLAMA_3
    },
    LLAMA_3,
    Shape {
        name: "qwen3-4b",
        arch: "qwen3",
        layers: 36,
        dim: 2560,
        kv_heads: 8,
        ffn: 9728,
        tied: true,
        experts: None,
        ..QWEN_3_MOE
    },
    QWEN_3_MOE,
];

/// The 8B model of Llama 3.1; the others of the family differ from it in few columns.
const LLAMA_3: Shape = Shape {
    name: "llama-8b",
    arch: "llama",
    layers: 32,
    dim: 4096,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    ffn: 14_336,
    vocab: 128_256,
    context: 131_072,
    rope_theta: 500_000.0,
    rope_stretch: Some(8.0),
    norm_eps: 1e-5,
    tied: false,
    head_norms: false,
    experts: None,
};

/// The 30B model of Qwen 3 with half of its experts.
const QWEN_3_MOE: Shape = Shape {
    name: "qwen3-moe",
    arch: "qwen3moe",
    layers: 48,
    dim: 2048,
    heads: 32,
    kv_heads: 4,
    head_dim: 128,
    ffn: 6144,
    vocab: 151_936,
    context: 40_960,
    rope_theta: 1e6,
    rope_stretch: None,
    norm_eps: 1e-6,
    tied: false,
    head_norms: true,
    experts: Some(Experts {
        count: 64,
        used: 8,
        width: 768,
    }),
};

/// Names of all shapes, in the order of the table.
pub(crate) fn names() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.name).collect()
}

/// What a tensor is for, which decides its type and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Matrix,
    Embedding,
    /// A matrix whose product is added to the residual stream.
    Residual,
    Router,
    Norm,
    RopeFactors,
}

impl Role {
    /// Whether it has the type asked for; all else is F32.
    pub(crate) const fn is_matrix(self) -> bool {
        matches!(self, Self::Matrix | Self::Embedding | Self::Residual)
    }
}

/// A tensor before it has a type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Elements per row first, as GGUF counts dimensions.
    pub(crate) dims: Vec<u64>,
}

impl Tensor {
    fn new(name: impl Into<String>, role: Role, dims: &[u32]) -> Self {
        let dims = dims.iter().copied().map(u64::from).collect();
        Self {
            name: name.into(),
            role,
            dims,
        }
    }
}

impl Shape {
    pub(crate) fn named(name: &str) -> Option<Self> {
        SHAPES.into_iter().find(|shape| shape.name == name)
    }

    /// All tensors, in the order of the file: that in which a forward pass reads them.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = vec![Tensor::new(
            "token_embd.weight",
            Role::Embedding,
            &[self.dim, self.vocab],
        )];
        if self.rope_stretch.is_some() {
            tensors.push(Tensor::new(
                "rope_freqs.weight",
                Role::RopeFactors,
                &[self.head_dim / 2],
            ));
        }
        for layer in 0..self.layers {
            tensors.extend(self.layer(layer));
        }
        tensors.push(Tensor::new("output_norm.weight", Role::Norm, &[self.dim]));
        if !self.tied {
            tensors.push(Tensor::new(
                "output.weight",
                Role::Matrix,
                &[self.dim, self.vocab],
            ));
        }
        tensors
    }

    fn layer(&self, layer: u32) -> Vec<Tensor> {
        let dim = self.dim;
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut rows: Vec<(&str, Role, &[u32])> = Vec::new();
        let (q_dims, kv_dims, out_dims, norm_dims) = ([dim, q], [dim, kv], [q, dim], [dim]);
        let head_dims = [self.head_dim];
        rows.push(("attn_norm", Role::Norm, &norm_dims));
        rows.push(("attn_q", Role::Matrix, &q_dims));
        rows.push(("attn_k", Role::Matrix, &kv_dims));
        rows.push(("attn_v", Role::Matrix, &kv_dims));
        if self.head_norms {
            rows.push(("attn_q_norm", Role::Norm, &head_dims));
            rows.push(("attn_k_norm", Role::Norm, &head_dims));
        }
        rows.push(("attn_output", Role::Residual, &out_dims));
        rows.push(("ffn_norm", Role::Norm, &norm_dims));
        let name = |name: &str| format!("blk.{layer}.{name}.weight");
        let tensors = rows.into_iter();
        let mut tensors: Vec<_> = tensors
            .map(|(part, role, dims)| Tensor::new(name(part), role, dims))
            .collect();
        tensors.extend(self.feed_forward(name));
        tensors
    }

    fn feed_forward(&self, name: impl Fn(&str) -> String) -> Vec<Tensor> {
        let (dim, ffn) = (self.dim, self.ffn);
        let Some(Experts { count, width, .. }) = self.experts else {
            return vec![
                Tensor::new(name("ffn_gate"), Role::Matrix, &[dim, ffn]),
                Tensor::new(name("ffn_up"), Role::Matrix, &[dim, ffn]),
                Tensor::new(name("ffn_down"), Role::Residual, &[ffn, dim]),
            ];
        };
        vec![
            Tensor::new(name("ffn_gate_inp"), Role::Router, &[dim, count]),
            Tensor::new(name("ffn_gate_exps"), Role::Matrix, &[dim, width, count]),
            Tensor::new(name("ffn_up_exps"), Role::Matrix, &[dim, width, count]),
            Tensor::new(name("ffn_down_exps"), Role::Residual, &[width, dim, count]),
        ]
    }

    /// Standard deviation of the elements of an embedding.
    ///
    /// With experts it is that of a normalised row: what a token is then outweighs what attention
    /// averages over its neighbours, which would send all of them to the same experts.
    pub(crate) fn embedding_deviation(&self) -> f32 {
        match self.experts {
            Some(_) => 1.0,
            None => 1.0 / (self.dim as f32).sqrt(),
        }
    }

    /// Factor of the matrices that add to the residual stream; with experts all of them together
    /// add about as much as the embedding brought.
    pub(crate) fn residual_factor(&self) -> f32 {
        match self.experts {
            Some(_) => 1.0 / (2.0 * self.layers as f32).sqrt(),
            None => 1.0,
        }
    }

    /// Whether rows of every matrix are whole blocks of `elements`; if not, the tensor that is not.
    pub(crate) fn first_uneven(&self, elements: u64) -> Option<Tensor> {
        let mut tensors = self.tensors().into_iter();
        tensors.find(|tensor| tensor.role.is_matrix() && tensor.dims[0] % elements != 0)
    }

    /// Divisor of each frequency: 1 for the high ones, the stretch for the low ones, and between
    /// them a blend that is linear in the number of turns over the original context.
    ///
    /// Source: Llama 3.1 reference code, `apply_scaling`.
    pub(crate) fn rope_factors(&self) -> Vec<f32> {
        const ORIGINAL_CONTEXT: f64 = 8192.0;
        const TURNS_LOW: f64 = 1.0;
        const TURNS_HIGH: f64 = 4.0;
        let stretch = f64::from(self.rope_stretch.unwrap_or(1.0));
        let factor = |pair: u32| {
            let exponent = f64::from(2 * pair) / f64::from(self.head_dim);
            let wave = std::f64::consts::TAU * f64::from(self.rope_theta).powf(exponent);
            let share = (ORIGINAL_CONTEXT / wave - TURNS_LOW) / (TURNS_HIGH - TURNS_LOW);
            let share = share.clamp(0.0, 1.0);
            (1.0 / ((1.0 - share) / stretch + share)) as f32
        };
        (0..self.head_dim / 2).map(factor).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_fit_together() {
        for shape in SHAPES {
            assert_eq!(shape.heads % shape.kv_heads, 0, "{}", shape.name);
            assert_eq!(shape.first_uneven(32), None, "{}", shape.name);
            assert_eq!(Shape::named(shape.name), Some(shape));
        }
    }

    #[test]
    fn parameters_are_those_of_the_models() {
        let parameters = |name| {
            let shape = Shape::named(name).expect("a name of the table");
            let tensors = shape.tensors().into_iter();
            let weights = tensors.filter(|tensor| tensor.role != Role::RopeFactors);
            weights
                .map(|tensor| tensor.dims.iter().product::<u64>())
                .sum::<u64>()
        };
        assert_eq!(parameters("llama-3.2-1b"), 1_235_814_400);
        assert_eq!(parameters("llama-3b"), 3_212_749_824);
        assert_eq!(parameters("llama-8b"), 8_030_261_248);
        assert_eq!(parameters("qwen3-4b"), 4_022_468_096);
        // Qwen3-30B-A3B has 30,532,122,624; half of its experts and routers are missing here.
        let missing = 48 * 64 * (3 * 2048 * 768 + 2048);
        assert_eq!(parameters("qwen3-moe"), 30_532_122_624 - missing);
    }

    #[test]
    fn experts_have_the_names_and_dimensions_of_llama_cpp() {
        let shape = Shape::named("qwen3-moe").expect("a name of the table");
        let layer = shape.layer(7);
        let found: Vec<_> = layer.iter().map(|t| (&*t.name, &*t.dims)).collect();
        let want: [(&str, &[u64]); 12] = [
            ("blk.7.attn_norm.weight", &[2048]),
            ("blk.7.attn_q.weight", &[2048, 4096]),
            ("blk.7.attn_k.weight", &[2048, 512]),
            ("blk.7.attn_v.weight", &[2048, 512]),
            ("blk.7.attn_q_norm.weight", &[128]),
            ("blk.7.attn_k_norm.weight", &[128]),
            ("blk.7.attn_output.weight", &[4096, 2048]),
            ("blk.7.ffn_norm.weight", &[2048]),
            ("blk.7.ffn_gate_inp.weight", &[2048, 64]),
            ("blk.7.ffn_gate_exps.weight", &[2048, 768, 64]),
            ("blk.7.ffn_up_exps.weight", &[2048, 768, 64]),
            ("blk.7.ffn_down_exps.weight", &[768, 2048, 64]),
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn rows_that_no_block_divides_are_found() {
        let uneven = |name| {
            Shape::named(name)
                .expect("a name of the table")
                .first_uneven(256)
        };
        assert_eq!(
            uneven("tiny").map(|t| t.name).as_deref(),
            Some("token_embd.weight")
        );
        for name in ["tiny-moe", "qwen3-4b", "qwen3-moe", "llama-8b"] {
            assert_eq!(uneven(name), None, "{name}");
        }
    }

    #[test]
    fn low_frequencies_are_stretched() {
        let factors = Shape::named("llama-3.2-1b")
            .expect("a name of the table")
            .rope_factors();
        assert_eq!(factors.len(), 32);
        assert_eq!((factors[0], factors[31]), (1.0, 32.0));
        assert!(factors.is_sorted());
    }
}
