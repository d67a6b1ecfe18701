//! Quantised activation rows ("q8 rows"): what the kernels of quantised weights multiply with.
//!
//! Each 32 elements share a float32 scale `d = amax / 127`; the values are `round(x / d)`.
//! Sixteen such blocks form a group of 640 bytes; a row is padded to whole groups with zeros:
//!
//! ```text
//! offset 0    512 bytes  values, int8: vector k (0..8), lane b (0..16), 4 bytes:
//!                        dword (b - k) mod 8 of block b of the group
//! offset 512   64 bytes  int32 per block: -128 × sum of its values
//! offset 576   64 bytes  float32 per block: the scale
//! ```
//!
//! Lane b of every vector belongs to block b, so eight dot-product instructions leave the exact
//! integer sums of sixteen blocks in one register. The dwords of a block lie on a diagonal,
//! because blends and one rotation per vector bring stored weights into that order, while a full
//! transpose would need three times as many shuffles. The sums undo the bias of 128 that makes
//! signed weights unsigned, and serve the minimums of the K types.

use crate::kernels::Kernels;
use crate::{Class, Isa, WeightType};

/// Elements that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Blocks of a group: lanes of the widest vector.
pub(crate) const GROUP_BLOCKS: usize = 16;
/// Elements of a group.
pub(crate) const GROUP: usize = BLOCK * GROUP_BLOCKS;
/// Bytes of a group.
pub(crate) const GROUP_BYTES: usize = SCALES_AT + 64;
/// Offset of the sums in a group.
pub(crate) const SUMS_AT: usize = GROUP;
/// Offset of the scales in a group.
pub(crate) const SCALES_AT: usize = GROUP + 64;

/// Blocks whose largest magnitude is below this become zeros: 127 / amax would overflow.
pub(crate) const AMAX_MIN: f32 = 1e-35;

/// Offset in a group of dword `dword` (0..8) of block `block` (0..16).
pub(crate) const fn dword_at(block: usize, dword: usize) -> usize {
    let vector = (block + 8 - dword) % 8;
    vector * 64 + block * 4
}

impl Kernels {
    /// Whether [`Kernels::matmul`] with weights of `ty` reads `Rows::q8` rather than `Rows::f32`.
    pub fn quantises(&self, _class: Class, ty: WeightType) -> bool {
        ty.is_quantised() && self.isa != Isa::Reference
    }

    /// Bytes of one quantised row of `cols` elements.
    pub const fn quantised_bytes(cols: usize) -> usize {
        cols.div_ceil(GROUP) * GROUP_BYTES
    }

    /// Quantises activation rows; each depends on itself only.
    ///
    /// Shapes: `x` (R, cols), `out` (R, [`Kernels::quantised_bytes`]); cols is a multiple of 32.
    /// Accuracy: each element within `amax / 254` of its block of 32. Equal bits on every
    /// instruction set.
    pub fn quantise(&self, x: &[f32], cols: usize, out: &mut [u8]) {
        assert!(
            cols > 0 && cols.is_multiple_of(BLOCK),
            "{cols} columns are no multiple of 32"
        );
        assert!(
            x.len().is_multiple_of(cols),
            "{} elements are no rows of {cols}",
            x.len()
        );
        let rows = x.len() / cols;
        let row_bytes = Self::quantised_bytes(cols);
        assert_eq!(
            out.len(),
            rows * row_bytes,
            "bytes of {rows} quantised rows"
        );
        assert_aligned(out);
        let shared = crate::scratch::SharedSlice::new(out);
        self.for_ranges(rows, 8, |row0, count, _| {
            for row in row0..row0 + count {
                // SAFETY: each row belongs to one task.
                let out = unsafe { shared.part(row * row_bytes, row_bytes) };
                quantise_row(self.isa, &x[row * cols..][..cols], out);
            }
        });
    }
}

/// Checks the alignment that the kernels' loads rely on.
pub(crate) fn assert_aligned(q8: &[u8]) {
    assert!(
        q8.is_empty() || q8.as_ptr().addr().is_multiple_of(64),
        "q8 rows lie 64-byte aligned"
    );
}

fn quantise_row(isa: Isa, x: &[f32], out: &mut [u8]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Kernels::new` checked the CPU's flags.
        Isa::Avx512 => unsafe { crate::avx512::quantise::row(x, out) },
        _ => crate::portable::quantise::row(x, out),
    }
}
