//! Operations along vectors: norms, gates, the read probe.

use super::lanes::{self, first_lanes};
use crate::matrix::Mode;
use crate::pace::AHEAD;
use core::arch::x86_64::*;

/// Shapes: all (D).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let len = x.len();
    assert!(
        weight.len() == len && out.len() == len,
        "a row, its weight and its output"
    );
    let mut chains = [_mm512_setzero_ps(); 2];
    for at in (0..len).step_by(16) {
        // SAFETY: masked to the row.
        let x = unsafe { _mm512_maskz_loadu_ps(first_lanes(len - at), x[at..].as_ptr()) };
        let chain = &mut chains[at / 16 % 2];
        *chain = _mm512_fmadd_ps(x, x, *chain);
    }
    let squares = lanes::sum(_mm512_add_ps(chains[0], chains[1]));
    let scale = _mm512_set1_ps(1.0 / (squares / len as f32 + eps).sqrt());
    for at in (0..len).step_by(16) {
        let mask = first_lanes(len - at);
        // SAFETY: masked to the row.
        unsafe {
            let x = _mm512_maskz_loadu_ps(mask, x[at..].as_ptr());
            let weight = _mm512_maskz_loadu_ps(mask, weight[at..].as_ptr());
            let y = _mm512_mul_ps(_mm512_mul_ps(x, scale), weight);
            _mm512_mask_storeu_ps(out[at..].as_mut_ptr(), mask, y);
        }
    }
}

/// Writes `silu(gate) * up`.
///
/// Shapes: equal.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn silu_mul(mode: Mode, gates: &[f32], ups: &[f32], out: &mut [f32]) {
    let len = out.len();
    assert!(
        gates.len() == len && ups.len() == len,
        "gates, ups and output"
    );
    let one = _mm512_set1_ps(1.0);
    for at in (0..len).step_by(16) {
        let mask = first_lanes(len - at);
        // SAFETY: masked to the slices.
        unsafe {
            let gate = _mm512_maskz_loadu_ps(mask, gates[at..].as_ptr());
            let up = _mm512_maskz_loadu_ps(mask, ups[at..].as_ptr());
            let minus = _mm512_sub_ps(_mm512_setzero_ps(), gate);
            let silu = _mm512_div_ps(gate, _mm512_add_ps(one, lanes::exp(minus)));
            let mut y = _mm512_mul_ps(silu, up);
            if mode == Mode::Add {
                y = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out[at..].as_ptr()), y);
            }
            _mm512_mask_storeu_ps(out[at..].as_mut_ptr(), mask, y);
        }
    }
}

/// Sum of all bytes; eight loads in flight, and prefetches ahead of them where kernels have those:
/// a limit that a kernel beats is none.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn sum_bytes(bytes: &[u8], prefetches: bool) -> u64 {
    let zero = _mm512_setzero_si512();
    let mut sums = [zero; 8];
    let (lines, rest) = bytes.as_chunks::<512>();
    for line in lines {
        if prefetches {
            let ahead = line.as_ptr().wrapping_add(AHEAD);
            for i in 0..8 {
                _mm_prefetch::<_MM_HINT_NTA>(ahead.wrapping_add(64 * i).cast());
            }
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: eight vectors lie inside the 512 bytes.
            let x = unsafe { _mm512_loadu_si512(line.as_ptr().add(64 * i).cast()) };
            *sum = _mm512_add_epi64(*sum, _mm512_sad_epu8(x, zero));
        }
    }
    let total = sums.into_iter().fold(zero, |a, b| _mm512_add_epi64(a, b));
    let rest: u64 = rest.iter().map(|byte| u64::from(*byte)).sum();
    _mm512_reduce_add_epi64(total) as u64 + rest
}
