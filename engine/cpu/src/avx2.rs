//! AVX2 kernels (with FMA and F16C): products only; the rest runs the portable code.
//!
//! Steps and chunks share one kernel: a weight row is decoded in registers and meets up to four
//! activation rows at a time.

#![expect(
    clippy::needless_range_loop,
    reason = "register tiles: indices name registers"
)]

mod floats;
mod quantised;

use crate::WeightType;
use crate::panel::Panel;

/// Float types of weights, as constants that choose a load.
const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

/// Writes the dot products of `panel` to `tile` (xn, wn).
///
/// # Safety
/// 1. The CPU has AVX2, FMA and F16C.
/// 2. Shapes were checked: weights and activations have the same columns, and all rows exist.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn panel(panel: &Panel<'_>, tile: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        match panel.w.ty() {
            WeightType::F32 => floats::panel::<F32>(panel, tile),
            WeightType::F16 => floats::panel::<F16>(panel, tile),
            WeightType::Bf16 => floats::panel::<BF16>(panel, tile),
            WeightType::Q8_0 => quantised::panel::<quantised::Q80>(panel, tile),
            WeightType::Q4K => quantised::panel::<quantised::Q4K>(panel, tile),
        }
    }
}
