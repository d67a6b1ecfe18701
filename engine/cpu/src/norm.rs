//! Root mean square normalisation.

use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::scratch::SharedSlice;
use crate::{portable, reference};

impl Kernels {
    /// Divides each row by its root mean square and scales it by `weight`.
    ///
    /// Shapes: `x`, `out` (rows, D); `weight` (D). For norms per head, rows = tokens × heads.
    /// Accuracy: within 2e-6 of the reference, relative.
    /// Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, rows: usize, out: &mut [f32]) {
        let cols = weight.len();
        assert_eq!(x.len(), rows * cols, "elements of {rows} rows");
        assert_eq!(out.len(), rows * cols, "elements of {rows} output rows");
        let shared = SharedSlice::new(out);
        let grain = ((32 << 10) / cols.max(1)).max(1);
        self.for_ranges(rows, grain, |row0, count, _| {
            for row in row0..row0 + count {
                // SAFETY: each row belongs to one task.
                let out = unsafe { shared.part(row * cols, cols) };
                norm_row(self.isa, &x[row * cols..][..cols], weight, eps, out);
            }
        });
    }
}

fn norm_row(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    match isa {
        Isa::Reference => reference::norm::row(x, weight, eps, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Kernels::new` checked the CPU's flags.
        Isa::Avx512 => unsafe { crate::avx512::vector::rms_norm(x, weight, eps, out) },
        _ => portable::norm::row(x, weight, eps, out),
    }
}
