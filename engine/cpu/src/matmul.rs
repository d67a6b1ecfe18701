//! Product of a weight matrix with activation rows.

use crate::kernels::{Class, Kernels};
use crate::matrix::{Matrix, Mode, Out, Rows, SharedOut};

impl Kernels {
    /// Multiplies activation rows with one row block of a weight tensor.
    ///
    /// Shapes: `w` (N, K), `x` (R, K), `bias` (N); writes columns `out.col0..out.col0 + N` of R
    /// output rows: `out[r][col0 + j]` = or += `dot(w[j], x[r]) + bias[j]`.
    /// Accuracy: float32 sums; quantised weights see activations rounded to 8 bits per block
    /// of 32. Equal bits however a tensor is cut into row blocks and rows into calls.
    pub fn matmul(
        &self,
        class: Class,
        w: &Matrix<'_>,
        x: &Rows<'_>,
        bias: Option<&[f32]>,
        out: &mut Out<'_>,
    ) {
        if let Some(bias) = bias {
            assert_eq!(bias.len(), w.rows(), "elements of the bias");
        }
        let mode = out.mode;
        let sink = SharedOut::new(out, x.rows, w.rows());
        self.for_tiles(class, [w], x, |tile| {
            for (row, dots) in tile.dots[0].chunks_exact(tile.cols).enumerate() {
                // SAFETY: each weight row belongs to one task, so its columns do too.
                let out = unsafe { sink.row(tile.row0 + row, tile.col0, tile.cols) };
                let bias = bias.map(|bias| &bias[tile.col0..][..tile.cols]);
                write_row(mode, dots, bias, out);
            }
        });
    }
}

fn write_row(mode: Mode, dots: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    match (mode, bias) {
        (Mode::Store, None) => out.copy_from_slice(dots),
        (Mode::Store, Some(bias)) => {
            for ((out, dot), bias) in out.iter_mut().zip(dots).zip(bias) {
                *out = dot + bias;
            }
        }
        (Mode::Add, None) => {
            for (out, dot) in out.iter_mut().zip(dots) {
                *out += dot;
            }
        }
        (Mode::Add, Some(bias)) => {
            for ((out, dot), bias) in out.iter_mut().zip(dots).zip(bias) {
                *out += dot + bias;
            }
        }
    }
}
