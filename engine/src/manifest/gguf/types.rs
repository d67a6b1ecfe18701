//! Every tensor type that GGUF files carry, whether or not a kernel reads it.
//!
//! Offsets of a file can be checked only when the size of each tensor is known.
//! Source: ggml, `ggml.h` (ids) and `ggml-common.h` (block layouts).

/// One tensor type of ggml.
#[derive(Debug, PartialEq, Eq)]
pub struct GgmlType {
    pub id: u32,
    pub name: &'static str,
    /// Elements in one block; a row is a whole number of blocks.
    pub block_elems: u64,
    pub block_bytes: u64,
}

/// The type with this id; `None` for ids that were removed from ggml or are newer than this table.
pub fn ggml_type(id: u32) -> Option<&'static GgmlType> {
    TYPES.iter().find(|ty| ty.id == id)
}

const fn ty(id: u32, name: &'static str, block_elems: u64, block_bytes: u64) -> GgmlType {
    GgmlType {
        id,
        name,
        block_elems,
        block_bytes,
    }
}

const TYPES: &[GgmlType] = &[
    ty(0, "F32", 1, 4),
    ty(1, "F16", 1, 2),
    ty(2, "Q4_0", 32, 18),
    ty(3, "Q4_1", 32, 20),
    ty(6, "Q5_0", 32, 22),
    ty(7, "Q5_1", 32, 24),
    ty(8, "Q8_0", 32, 34),
    ty(9, "Q8_1", 32, 36),
    ty(10, "Q2_K", 256, 84),
    ty(11, "Q3_K", 256, 110),
    ty(12, "Q4_K", 256, 144),
    ty(13, "Q5_K", 256, 176),
    ty(14, "Q6_K", 256, 210),
    ty(15, "Q8_K", 256, 292),
    ty(16, "IQ2_XXS", 256, 66),
    ty(17, "IQ2_XS", 256, 74),
    ty(18, "IQ3_XXS", 256, 98),
    ty(19, "IQ1_S", 256, 50),
    ty(20, "IQ4_NL", 32, 18),
    ty(21, "IQ3_S", 256, 110),
    ty(22, "IQ2_S", 256, 82),
    ty(23, "IQ4_XS", 256, 136),
    ty(24, "I8", 1, 1),
    ty(25, "I16", 1, 2),
    ty(26, "I32", 1, 4),
    ty(27, "I64", 1, 8),
    ty(28, "F64", 1, 8),
    ty(29, "IQ1_M", 256, 56),
    ty(30, "BF16", 1, 2),
    ty(34, "TQ1_0", 256, 54),
    ty(35, "TQ2_0", 256, 66),
    ty(39, "MXFP4", 32, 17),
    ty(40, "NVFP4", 64, 36),
    ty(41, "Q1_0", 128, 18),
];

#[cfg(test)]
mod tests {
    use super::*;
    use larder_cpu::weight::WeightType;

    #[test]
    fn kernels_and_table_agree_on_every_layout() {
        for weight in WeightType::ALL {
            let ty = TYPES.iter().find(|ty| ty.name == weight.name());
            let ty = ty.expect("every weight type is a ggml type");
            assert_eq!(ty.block_elems, weight.block_elems() as u64, "{}", ty.name);
            assert_eq!(ty.block_bytes, weight.block_bytes() as u64, "{}", ty.name);
        }
    }

    #[test]
    fn ids_ascend() {
        assert!(TYPES.is_sorted_by(|a, b| a.id < b.id));
    }
}
