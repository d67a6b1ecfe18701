//! What a kernel of products computes in one call, and how much memory it needs.

use crate::kernels::Class;
use crate::matrix::{Matrix, Rows};

/// Dot products that one call of a kernel computes.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub(crate) class: Class,
    pub(crate) w: &'a Matrix<'a>,
    /// First weight row, and how many.
    pub(crate) w0: usize,
    pub(crate) wn: usize,
    pub(crate) x: &'a Rows<'a>,
    /// First activation row, and how many.
    pub(crate) x0: usize,
    pub(crate) xn: usize,
    /// The weights are prefetched [`AHEAD`] bytes before they are loaded.
    pub(crate) prefetches: bool,
}

/// Bytes from a load of a stream of weights to the line that is prefetched with it.
pub(crate) const AHEAD: usize = 4096;

/// Floats of work memory of `step_f32`.
pub(crate) const STEP_WORK: usize = 2048;
/// Columns of activations that `gemm_f32` packs at a time.
pub(crate) const GEMM_K: usize = 256;
/// Floats of work memory of `gemm_f32`: the packed panel and a copy of fourteen activation rows.
pub(crate) const GEMM_WORK: usize = GEMM_N * GEMM_K + 14 * (GEMM_K + 16);
/// Weight rows of a panel of `gemm_f32`.
pub(crate) const GEMM_N: usize = 128;
/// Step rows up to which weights are unpacked in registers rather than into work memory.
pub(crate) const DIRECT_ROWS_MAX: usize = 4;
