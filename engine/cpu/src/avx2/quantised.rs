//! Dot products of quantised weight rows with quantised activation rows.
//!
//! As on AVX-512, lanes are blocks (see [`crate::q8`]), eight at a time: half a group. Without
//! VNNI the products go through 16 bits, where pairs of |w| ≤ 128 and |x| ≤ 127 just fit.

use super::floats::sum;
use crate::decode::{Q4K_BYTES, q4k_factors, q4k_scales};
use crate::panel::Panel;
use crate::q8::{self, BLOCK, GROUP_BYTES, SCALES_AT, SUMS_AT};
use core::arch::x86_64::*;

/// Columns of half a group.
const HALF: usize = 8 * BLOCK;
/// Most bytes of a stored half group.
const STORED_MAX: usize = 8 * 34;

/// Eight blocks of 32 weights, lane b from block b.
pub(super) struct Half {
    values: [__m256i; 8],
    scales: __m256,
    /// Minimums ÷ 128.
    minimums: __m256,
}

/// A stored format of quantised weights.
pub(super) trait Format {
    /// Bytes of eight stored blocks of 32 weights.
    const STORED: usize;
    /// Weights are unsigned and blocks have minimums; else they are signed.
    const MINIMUMS: bool;

    /// Unpacks half a group.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C; `p` has `STORED` readable bytes.
    unsafe fn half(p: *const u8) -> Half;
}

/// Blocks of 32 signed bytes.
pub(super) struct Q80;

/// Blocks of 256 4-bit values with a scale and a minimum for each 32.
pub(super) struct Q4K;

/// Source lane of lane j for vector k: (j - k) mod 8.
const ROTATIONS: [[i32; 8]; 8] = {
    let mut all = [[0; 8]; 8];
    let mut i = 0;
    while i < 64 {
        all[i / 8][i % 8] = ((i % 8 + 8 - i / 8) % 8) as i32;
        i += 1;
    }
    all
};

/// Brings eight blocks into the order of [`crate::q8`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn diagonal(x: [__m256i; 8]) -> [__m256i; 8] {
    let zero = _mm256_setzero_si256();
    let (mut a, mut b, mut values) = ([zero; 8], [zero; 8], [zero; 8]);
    for i in 0..8 {
        a[i] = _mm256_blend_epi32::<0xaa>(x[i], x[(i + 1) % 8]);
    }
    for i in 0..8 {
        b[i] = _mm256_blend_epi32::<0xcc>(a[i], a[(i + 2) % 8]);
    }
    for i in 0..8 {
        let value = _mm256_blend_epi32::<0xf0>(b[i], b[(i + 4) % 8]);
        // SAFETY: a row of the table has 32 bytes.
        let rotation = unsafe { _mm256_loadu_si256(ROTATIONS[i].as_ptr().cast()) };
        values[i] = _mm256_permutevar8x32_epi32(value, rotation);
    }
    values
}

impl Format for Q80 {
    const STORED: usize = 8 * 34;
    const MINIMUMS: bool = false;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn half(p: *const u8) -> Half {
        let mut x = [_mm256_setzero_si256(); 8];
        let mut scales = [0_u16; 8];
        // SAFETY: block b spans bytes 34 b .. 34 b + 34 of the caller's 272.
        let scales = unsafe {
            for b in 0..8 {
                scales[b] = p.add(34 * b).cast::<u16>().read_unaligned();
                x[b] = _mm256_loadu_si256(p.add(34 * b + 2).cast());
            }
            _mm256_cvtph_ps(_mm_loadu_si128(scales.as_ptr().cast()))
        };
        Half {
            values: diagonal(x),
            scales,
            minimums: _mm256_setzero_ps(),
        }
    }
}

impl Format for Q4K {
    const STORED: usize = Q4K_BYTES;
    const MINIMUMS: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn half(p: *const u8) -> Half {
        let nibble = _mm256_set1_epi8(15);
        let mut x = [_mm256_setzero_si256(); 8];
        // SAFETY: a block of 144 bytes: 16 of scales, 128 of values.
        let block = unsafe {
            for i in 0..4 {
                let both = _mm256_loadu_si256(p.add(16 + 32 * i).cast());
                x[2 * i] = _mm256_and_si256(both, nibble);
                x[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
            }
            &*p.cast::<[u8; Q4K_BYTES]>()
        };
        let (d, dmin) = q4k_factors(block);
        let (scales, minimums) = q4k_scales(block);
        let widen = |bytes: [u8; 8], factor: f32| {
            let wide = _mm256_cvtepu8_epi32(_mm_set_epi64x(0, i64::from_le_bytes(bytes)));
            _mm256_mul_ps(_mm256_cvtepi32_ps(wide), _mm256_set1_ps(factor))
        };
        let minimums = widen(minimums, dmin * (1.0 / 128.0));
        Half {
            values: diagonal(x),
            scales: widen(scales, d),
            minimums,
        }
    }
}

/// # Safety
/// As [`super::panel`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn panel<F: Format>(panel: &Panel<'_>, tile: &mut [f32]) {
    let row_bytes = q8::row_bytes(panel.w.cols());
    let q8 = panel.x.q8.expect("checked by the caller");
    for j in 0..panel.wn {
        let w = panel.w.row(panel.w0 + j);
        let mut r = 0;
        while r < panel.xn {
            let x = q8[(panel.x0 + r) * row_bytes..].as_ptr();
            let out = &mut tile[r * panel.wn + j..];
            // SAFETY: `M` quantised rows exist.
            r += unsafe {
                match panel.xn - r {
                    1 => dots::<F, 1>(w, x, row_bytes, out, panel.wn),
                    2 | 3 => dots::<F, 2>(w, x, row_bytes, out, panel.wn),
                    _ => dots::<F, 4>(w, x, row_bytes, out, panel.wn),
                }
            };
        }
    }
}

/// One weight row with `M` activation rows; returns `M`.
///
/// # Safety
/// `x` has `M` quantised rows of `row_bytes`, 64-byte aligned, of the columns of `w`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dots<F: Format, const M: usize>(
    w: &[u8],
    x: *const u8,
    row_bytes: usize,
    out: &mut [f32],
    stride: usize,
) -> usize {
    let mut chains = [[_mm256_setzero_ps(); 2]; M];
    for (i, stored) in w.chunks(F::STORED).enumerate() {
        // SAFETY: half group i exists in every row; a short one is copied with zeros behind.
        unsafe {
            let half = if stored.len() == F::STORED {
                F::half(stored.as_ptr())
            } else {
                let mut copy = [0_u8; STORED_MAX];
                copy[..stored.len()].copy_from_slice(stored);
                F::half(copy.as_ptr())
            };
            for r in 0..M {
                let x = x.add(r * row_bytes + i / 2 * GROUP_BYTES + i % 2 * 32);
                if i % 2 == 0 {
                    chains[r][0] = multiply::<F>(&half, x, chains[r][0]);
                } else {
                    chains[r][1] = multiply::<F>(&half, x, chains[r][1]);
                }
            }
        }
    }
    for (r, [low, high]) in chains.into_iter().enumerate() {
        out[r * stride] = sum(_mm256_add_ps(low, high));
    }
    M
}

/// Adds the products of eight blocks to their chains.
///
/// # Safety
/// `x` is a quantised group, or that plus 32 bytes for its upper lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<F: Format>(w: &Half, x: *const u8, chain: __m256) -> __m256 {
    let ones = _mm256_set1_epi16(1);
    let mut sums = _mm256_setzero_si256();
    // SAFETY: half vectors of a group of 640 bytes.
    unsafe {
        for k in 0..8 {
            let x = _mm256_load_si256(x.add(64 * k).cast());
            let w = w.values[k];
            let pairs = if F::MINIMUMS {
                _mm256_maddubs_epi16(w, x)
            } else {
                _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
            };
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
        }
        let scales = _mm256_load_ps(x.add(SCALES_AT).cast());
        let factors = _mm256_mul_ps(w.scales, scales);
        let chain = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), factors, chain);
        if !F::MINIMUMS {
            return chain;
        }
        let bias = _mm256_cvtepi32_ps(_mm256_load_si256(x.add(SUMS_AT).cast()));
        _mm256_fmadd_ps(bias, _mm256_mul_ps(w.minimums, scales), chain)
    }
}

const _: () = assert!(HALF * 2 == crate::q8::GROUP && Q80::STORED == STORED_MAX);
