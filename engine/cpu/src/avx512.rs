//! AVX-512 kernels (F, BW, VL, DQ, VNNI).
//!
//! Every function here needs these flags; `Kernels::new` checks them once. Two families:
//! dot products along the row for steps ([`step_f32`], [`step_q8`]) and tiles from unpacked
//! panels for chunks ([`gemm_f32`], [`gemm_q8`]). Both quantised ones sum in the same order.
#![expect(
    clippy::needless_range_loop,
    clippy::large_types_passed_by_value,
    reason = "register tiles: indices name registers, arrays of vectors never reach memory"
)]

mod lanes;

pub(crate) mod quantise;
pub(crate) mod vector;

mod gemm_f32;
mod step_f32;

mod unpack;

mod gemm_q8;
mod step_q8;

mod coming;

mod rows;

pub(crate) mod attention;

use crate::kernels::Class;
use crate::matrix::Matrix;
use crate::panel::{DIRECT_ROWS_MAX, Panel};
use crate::weight::WeightType;

/// Float types of weights, as constants that choose a load.
const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

/// Writes the dot products of `panel` to `tile` (xn, wn).
///
/// # Safety
/// 1. The CPU has AVX-512 F, BW, VL, DQ and VNNI.
/// 2. Shapes were checked: weights and activations have the same columns, and all rows exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn panel(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        match (panel.w.ty(), panel.class) {
            (WeightType::F32, Class::Step) => step_f32::panel::<F32>(panel, tile, work),
            (WeightType::F16, Class::Step) => step_f32::panel::<F16>(panel, tile, work),
            (WeightType::Bf16, Class::Step) => step_f32::panel::<BF16>(panel, tile, work),
            (WeightType::F32, Class::Chunk) => gemm_f32::panel::<F32>(panel, tile, work),
            (WeightType::F16, Class::Chunk) => gemm_f32::panel::<F16>(panel, tile, work),
            (WeightType::Bf16, Class::Chunk) => gemm_f32::panel::<BF16>(panel, tile, work),
            (WeightType::Q8_0, _) => quantised::<unpack::Q80>(panel, tile, work),
            (WeightType::Q4K, _) => quantised::<unpack::Q4K>(panel, tile, work),
        }
    }
}

/// # Safety
/// As [`panel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn quantised<F: unpack::Format>(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        if panel.class == Class::Step && panel.xn <= DIRECT_ROWS_MAX {
            step_q8::panel::<F>(panel, tile);
        } else {
            gemm_q8::panel::<F>(panel, tile, work);
        }
    }
}

/// Address of weight row `row`.
fn row_ptr(w: &Matrix<'_>, row: usize) -> *const u8 {
    w.row(row).as_ptr()
}
