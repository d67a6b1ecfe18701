//! AVX2 kernels (with FMA and F16C): products and the read probe; the rest runs the portable
//! code.
//!
//! Steps and chunks share one kernel: a weight row is decoded in registers and meets up to four
//! activation rows at a time.

#![expect(
    clippy::needless_range_loop,
    reason = "register tiles: indices name registers"
)]

mod floats;
mod quantised;

use crate::panel::Panel;
use crate::weight::WeightType;
use core::arch::x86_64::*;

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

/// Sum of all bytes; eight loads in flight.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn sum_bytes(bytes: &[u8]) -> u64 {
    let zero = _mm256_setzero_si256();
    let mut sums = [zero; 8];
    let (lines, rest) = bytes.as_chunks::<256>();
    for line in lines {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: eight vectors lie inside the 256 bytes.
            let x = unsafe { _mm256_loadu_si256(line.as_ptr().add(32 * i).cast()) };
            *sum = _mm256_add_epi64(*sum, _mm256_sad_epu8(x, zero));
        }
    }
    let total = sums.into_iter().fold(zero, |a, b| _mm256_add_epi64(a, b));
    let mut lanes = [0_u64; 4];
    // SAFETY: the array has 32 bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), total) };
    lanes.iter().sum::<u64>() + rest.iter().map(|byte| u64::from(*byte)).sum::<u64>()
}
