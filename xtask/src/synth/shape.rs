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
}

const SHAPES: [Shape; 4] = [
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
};

/// Names of all shapes, in the order of the table.
pub(crate) fn names() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.name).collect()
}

/// What a tensor is for, which decides its type and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Matrix,
    Norm,
    RopeFactors,
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
            Role::Matrix,
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
        let (dim, ffn) = (self.dim, self.ffn);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let rows: [(&str, Role, &[u32]); 9] = [
            ("attn_norm", Role::Norm, &[dim]),
            ("attn_q", Role::Matrix, &[dim, q]),
            ("attn_k", Role::Matrix, &[dim, kv]),
            ("attn_v", Role::Matrix, &[dim, kv]),
            ("attn_output", Role::Matrix, &[q, dim]),
            ("ffn_norm", Role::Norm, &[dim]),
            ("ffn_gate", Role::Matrix, &[dim, ffn]),
            ("ffn_up", Role::Matrix, &[dim, ffn]),
            ("ffn_down", Role::Matrix, &[ffn, dim]),
        ];
        let tensor =
            |(name, role, dims)| Tensor::new(format!("blk.{layer}.{name}.weight"), role, dims);
        rows.into_iter().map(tensor).collect()
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
            for tensor in shape
                .tensors()
                .iter()
                .filter(|tensor| tensor.role == Role::Matrix)
            {
                assert_eq!(tensor.dims[0] % 32, 0, "{} {}", shape.name, tensor.name);
            }
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
