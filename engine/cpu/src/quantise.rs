//! Activation rows into the layout of [`crate::q8`].

#[cfg(target_arch = "x86_64")]
use crate::avx512;
use crate::isa::Isa;
use crate::kernels::{Class, Kernels};
use crate::scratch::SharedSlice;
use crate::weight::WeightType;
use crate::{portable, q8};

impl Kernels {
    /// Whether [`Kernels::matmul`] with weights of `ty` reads `Rows::q8` rather than `Rows::f32`.
    pub fn quantises(&self, _class: Class, ty: WeightType) -> bool {
        ty.is_quantised() && self.isa != Isa::Reference
    }

    /// Bytes of one quantised row of `cols` elements.
    pub const fn quantised_bytes(cols: usize) -> usize {
        q8::row_bytes(cols)
    }

    /// Quantises activation rows; each depends on itself only.
    ///
    /// Shapes: `x` (R, cols), `out` (R, [`Kernels::quantised_bytes`]); cols is a multiple of 32.
    /// Accuracy: each element within `amax / 254` of its block of 32. Equal bits on every
    /// instruction set.
    pub fn quantise(&self, x: &[f32], cols: usize, out: &mut [u8]) {
        assert!(
            cols > 0 && cols.is_multiple_of(q8::BLOCK),
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
        q8::assert_aligned(out);
        let shared = SharedSlice::new(out);
        self.for_ranges(rows, 8, |row0, count, _| {
            for row in row0..row0 + count {
                // SAFETY: each row belongs to one task.
                let out = unsafe { shared.part(row * row_bytes, row_bytes) };
                quantise_row(self.isa, &x[row * cols..][..cols], out);
            }
        });
    }
}

fn quantise_row(isa: Isa, x: &[f32], out: &mut [u8]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Kernels::new` checked the CPU's flags.
        Isa::Avx512 => unsafe { avx512::quantise::row(x, out) },
        _ => portable::quantise::row(x, out),
    }
}
