//! Types of weights: how many elements and bytes one block of a row has.

/// Type of a stored tensor. Names and layouts are those of GGUF.
///
/// Source: ggml, `ggml-common.h` and `gguf-py/gguf/constants.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightType {
    F32,
    F16,
    Bf16,
    /// 32 elements: f16 scale, 32 signed bytes.
    Q8_0,
    /// 256 elements: f16 scale and minimum scale, eight 6-bit scales and minimums, 128 bytes of
    /// two 4-bit values.
    Q4K,
}

impl WeightType {
    /// Every type that the kernels read, in the order of the help texts.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4K];

    /// The field's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
        }
    }

    /// Whether the kernels multiply it with quantised activations.
    pub const fn is_quantised(self) -> bool {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => false,
            Self::Q8_0 | Self::Q4K => true,
        }
    }

    /// Elements in one block; a row is a whole number of blocks.
    pub const fn block_elems(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 => 32,
            Self::Q4K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
        }
    }

    /// Bytes of a row of `cols` elements; `cols` is a whole number of blocks.
    pub const fn row_bytes(self, cols: usize) -> usize {
        cols / self.block_elems() * self.block_bytes()
    }
}
