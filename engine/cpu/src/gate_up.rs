//! First half of a gated feed-forward network: two products and the gate in one pass.

use crate::isa::Isa;
use crate::kernels::{Class, Kernels};
use crate::matrix::{Matrix, Mode, Out, Rows, SharedOut};

impl Kernels {
    /// Computes `silu(gate · x) * (up · x)` for one row block of both tensors.
    ///
    /// Shapes: `gate`, `up` (N, K) of equal rows, types may differ; `x` (R, K); writes columns
    /// `out.col0..out.col0 + N` of R output rows.
    /// Accuracy: as [`Kernels::matmul`]; the gate within 4e-7, relative.
    /// Source: Shazeer, GLU Variants Improve Transformer, 2020 (SwiGLU).
    pub fn gate_up(
        &self,
        class: Class,
        gate: &Matrix<'_>,
        up: &Matrix<'_>,
        x: &Rows<'_>,
        out: &mut Out<'_>,
    ) {
        self.gate_ups(class, &[[gate, up]], x, out);
    }

    /// As [`Kernels::gate_up`], of many row blocks that follow each other, gate and up of each, at
    /// once.
    pub fn gate_ups(
        &self,
        class: Class,
        blocks: &[[&Matrix<'_>; 2]],
        x: &Rows<'_>,
        out: &mut Out<'_>,
    ) {
        let mode = out.mode;
        let mut cols = 0;
        let starts = blocks.iter().map(|[gate, _]| {
            cols += gate.rows();
            cols - gate.rows()
        });
        let starts: Vec<usize> = starts.collect();
        let sink = SharedOut::new(out, x.rows, cols);
        self.for_tiles(class, blocks, x, |tile| {
            let [gates, ups] = tile.dots;
            let col0 = starts[tile.block] + tile.col0;
            for row in 0..tile.rows {
                // SAFETY: each weight row belongs to one task, so its columns do too.
                let out = unsafe { sink.row(tile.row0 + row, col0, tile.cols) };
                let (gates, ups) = (&gates[row * tile.cols..], &ups[row * tile.cols..]);
                silu_mul(self.isa, mode, &gates[..tile.cols], &ups[..tile.cols], out);
            }
        });
    }
}

fn silu_mul(isa: Isa, mode: Mode, gates: &[f32], ups: &[f32], out: &mut [f32]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Kernels::new` checked the CPU's flags.
        Isa::Avx512 => unsafe { crate::avx512::vector::silu_mul(mode, gates, ups, out) },
        _ => {
            for ((out, gate), up) in out.iter_mut().zip(gates).zip(ups) {
                let value = gate / (1.0 + (-gate).exp()) * up;
                *out = if mode == Mode::Add {
                    *out + value
                } else {
                    value
                };
            }
        }
    }
}
