//! Products of weight matrices with activation rows.

use crate::kernels::{Class, Kernels};
use crate::matrix::{Matrix, Mode, Out, Rows, SharedOut};

/// Row blocks of one tensor that follow each other, and where their columns begin.
#[derive(Debug)]
pub struct Product<'a> {
    pub blocks: Vec<Matrix<'a>>,
    pub out: Out<'a>,
}

/// Where the columns of a row block go.
struct Place {
    out: SharedOut,
    col0: usize,
    mode: Mode,
}

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
        let place = Place {
            out: SharedOut::new(out, x.rows, w.rows()),
            col0: 0,
            mode: out.mode,
        };
        self.multiply(class, &[[w]], x, bias, &[place]);
    }

    /// As [`Kernels::matmul`], of many row blocks with the same rows at once: the threads meet at
    /// the end of all of them only.
    pub fn matmuls(&self, class: Class, x: &Rows<'_>, products: &mut [Product<'_>]) {
        let (mut blocks, mut places) = (Vec::new(), Vec::new());
        for Product { blocks: ws, out } in products {
            let cols = ws.iter().map(Matrix::rows).sum();
            let (shared, mut col0) = (SharedOut::new(out, x.rows, cols), 0);
            for w in &*ws {
                blocks.push([w]);
                places.push(Place {
                    out: shared,
                    col0,
                    mode: out.mode,
                });
                col0 += w.rows();
            }
        }
        self.multiply(class, &blocks, x, None, &places);
    }

    fn multiply(
        &self,
        class: Class,
        blocks: &[[&Matrix<'_>; 1]],
        x: &Rows<'_>,
        bias: Option<&[f32]>,
        places: &[Place],
    ) {
        self.for_tiles(class, blocks, x, |tile| {
            let place = &places[tile.block];
            let bias = bias.map(|bias| &bias[tile.col0..][..tile.cols]);
            for (row, dots) in tile.dots[0].chunks_exact(tile.cols).enumerate() {
                let col = place.col0 + tile.col0;
                // SAFETY: each weight row belongs to one task, so its columns do too, and no two
                // products have an output in common.
                let out = unsafe { place.out.row(tile.row0 + row, col, tile.cols) };
                write_row(place.mode, dots, bias, out);
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
