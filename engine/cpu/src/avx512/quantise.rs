//! Quantisation of activation rows; equal bits as `portable::quantise`.

use super::lanes;
use crate::q8::{AMAX_MIN, BLOCK, GROUP, GROUP_BYTES, SCALES_AT, SUMS_AT, dword_at};
use core::arch::x86_64::*;

/// Shapes: `x` (cols); `out` whole groups.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn row(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(GROUP).zip(out.chunks_exact_mut(GROUP_BYTES)) {
        if x.len() < GROUP {
            out.fill(0);
        }
        for (b, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
            let (values, sum, scale) = block(x);
            for (dword, value) in values.as_chunks::<4>().0.iter().enumerate() {
                out[dword_at(b, dword)..][..4].copy_from_slice(value);
            }
            out[SUMS_AT + b * 4..][..4].copy_from_slice(&(-128 * sum).to_le_bytes());
            out[SCALES_AT + b * 4..][..4].copy_from_slice(&scale.to_le_bytes());
        }
    }
}

/// Values, their sum and the scale of one block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn block(x: &[f32; BLOCK]) -> ([u8; BLOCK], i32, f32) {
    let mut values = [0; BLOCK];
    // SAFETY: the block has 32 floats.
    let x = unsafe {
        [
            _mm512_loadu_ps(x.as_ptr()),
            _mm512_loadu_ps(x.as_ptr().add(16)),
        ]
    };
    let amax = lanes::max(_mm512_max_ps(_mm512_abs_ps(x[0]), _mm512_abs_ps(x[1])));
    if amax < AMAX_MIN {
        return (values, 0, 0.0);
    }
    let inverse = _mm512_set1_ps(127.0 / amax);
    let x = x.map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
    let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(x[0], x[1]));
    // SAFETY: the values have room for 32 bytes.
    unsafe {
        let out: *mut __m128i = values.as_mut_ptr().cast();
        _mm_storeu_si128(out, _mm512_cvtsepi32_epi8(x[0]));
        _mm_storeu_si128(out.add(1), _mm512_cvtsepi32_epi8(x[1]));
    }
    (values, sum, amax / 127.0)
}
