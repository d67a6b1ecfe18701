//! Stored blocks of quantised weights into the lane order of [`crate::q8`].
//!
//! A group is 512 columns: sixteen blocks of Q8_0, two of Q4_K with eight sub-blocks each.

use crate::decode::{Q4K_BYTES, q4k_scales};
use crate::q8::GROUP_BLOCKS;
use core::arch::x86_64::*;

/// A stored format of quantised weights.
pub(super) trait Format {
    /// Bytes of a stored group of 512 columns.
    const STORED: usize;
    /// Weights are unsigned and blocks have minimums; else they are signed and 128 was added.
    const MINIMUMS: bool;

    /// Unpacks the group at `p`; sub-blocks outside of `lanes` get a scale of zero.
    ///
    /// # Safety
    /// The CPU has the flags of this module; `p` has `STORED` readable bytes.
    unsafe fn group(p: *const u8, lanes: __mmask16) -> Group;
}

/// Blocks of 32 signed bytes.
pub(super) struct Q80;

/// Blocks of 256 4-bit values with a scale and a minimum for each 32.
pub(super) struct Q4K;

/// Bytes of a stored group of sixteen blocks of Q8_0.
const STORED: usize = GROUP_BLOCKS * 34;

/// A group of sixteen blocks of one weight row, lane b from block b.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Unsigned weights; dwords on the diagonal as in [`crate::q8`].
    pub(super) values: [__m512i; 8],
    /// Scales; zero in the lanes beyond the row.
    pub(super) scales: __m512,
    /// Minimums ÷ 128; zero without minimums and in the lanes beyond the row.
    pub(super) minimums: __m512,
}

/// Word of scale b of a group after the masked loads of [`scales`].
const SCALE_WORDS: [i16; 32] = {
    let mut words = [0; 32];
    let mut b = 0;
    while b < 16 {
        words[b] = if b % 2 == 0 { b as i16 } else { b as i16 + 16 };
        b += 1;
    }
    words
};

/// Source lane of lane j for vector k: (j - k) mod 8 of the same half.
const ROTATIONS: [[i32; 16]; 8] = {
    let mut all = [[0; 16]; 8];
    let mut i = 0;
    while i < 128 {
        let (k, lane) = (i / 16, i % 16);
        all[k][lane] = (lane / 8 * 8 + (lane % 8 + 8 - k) % 8) as i32;
        i += 1;
    }
    all
};

/// The sixteen scales: scale b is word 17 b, so vector j holds two, at words 2j and 17 + 2j, and
/// no two vectors hold theirs at the same place.
///
/// # Safety
/// `p` has 512 readable bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn scales(p: *const u8, lanes: __mmask16) -> __m512 {
    // SAFETY: eight vectors of 64 bytes lie inside the caller's 512; the table has 64.
    unsafe {
        let mut words = _mm512_loadu_epi16(p.cast());
        for j in 1..8 {
            let mask = (1 << (2 * j)) | (1 << (17 + 2 * j));
            words = _mm512_mask_loadu_epi16(words, mask, p.add(64 * j).cast());
        }
        let order = _mm512_loadu_epi16(SCALE_WORDS.as_ptr());
        let halves = _mm512_castsi512_si256(_mm512_permutexvar_epi16(order, words));
        _mm512_maskz_mov_ps(lanes, _mm512_cvtph_ps(halves))
    }
}

/// Brings vectors of (block i, block i + 8) into the order of [`crate::q8`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn diagonal(x: [__m512i; 8]) -> [__m512i; 8] {
    let zero = _mm512_setzero_si512();
    // three rounds of blends: lane l of vector k comes from vector k + l
    let mut a = [zero; 8];
    let mut b = [zero; 8];
    let mut values = [zero; 8];
    for i in 0..8 {
        a[i] = _mm512_mask_blend_epi32(0xaaaa, x[i], x[(i + 1) % 8]);
    }
    for i in 0..8 {
        b[i] = _mm512_mask_blend_epi32(0xcccc, a[i], a[(i + 2) % 8]);
    }
    for i in 0..8 {
        values[i] = _mm512_mask_blend_epi32(0xf0f0, b[i], b[(i + 4) % 8]);
    }
    // one rotation: lane j of vector k then holds dword (j - k) mod 8 of block j
    for k in 1..8 {
        // SAFETY: a row of the table has 64 bytes.
        let rotation = unsafe { _mm512_loadu_si512(ROTATIONS[k].as_ptr().cast()) };
        values[k] = _mm512_permutexvar_epi32(rotation, values[k]);
    }
    values
}

/// Thirty-two bytes each at `low` and `high`.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn halves(low: *const u8, high: *const u8) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.cast()));
        _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.cast()))
    }
}

impl Format for Q80 {
    const STORED: usize = STORED;
    const MINIMUMS: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn group(p: *const u8, lanes: __mmask16) -> Group {
        let bias = _mm512_set1_epi8(-128);
        let mut x = [_mm512_setzero_si512(); 8];
        // SAFETY: block b spans bytes 34 b .. 34 b + 34 of the caller's 544.
        unsafe {
            for (i, x) in x.iter_mut().enumerate() {
                let both = halves(p.add(34 * i + 2), p.add(34 * (i + 8) + 2));
                *x = _mm512_xor_si512(both, bias);
            }
            let minimums = _mm512_setzero_ps();
            Group {
                values: diagonal(x),
                scales: scales(p, lanes),
                minimums,
            }
        }
    }
}

impl Format for Q4K {
    const STORED: usize = 2 * Q4K_BYTES;
    const MINIMUMS: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn group(p: *const u8, lanes: __mmask16) -> Group {
        let nibble = _mm512_set1_epi8(15);
        let mut x = [_mm512_setzero_si512(); 8];
        // SAFETY: two blocks of 144 bytes: 16 of scales, 128 of values.
        let (first, second) = unsafe {
            for i in 0..4 {
                let at = 16 + 32 * i;
                let both = halves(p.add(at), p.add(Q4K_BYTES + at));
                x[2 * i] = _mm512_and_si512(both, nibble);
                x[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
            }
            (
                &*p.cast::<[u8; Q4K_BYTES]>(),
                &*p.add(Q4K_BYTES).cast::<[u8; Q4K_BYTES]>(),
            )
        };
        let (scales, minimums) = q4k_lanes(first, second);
        Group {
            values: diagonal(x),
            scales: _mm512_maskz_mov_ps(lanes, scales),
            minimums: _mm512_maskz_mov_ps(lanes, minimums),
        }
    }
}

/// Scales and minimums ÷ 128 of the sub-blocks of two Q4_K blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn q4k_lanes(first: &[u8; Q4K_BYTES], second: &[u8; Q4K_BYTES]) -> (__m512, __m512) {
    let ((s0, m0), (s1, m1)) = (q4k_scales(first), q4k_scales(second));
    let widen = |low: [u8; 8], high: [u8; 8]| {
        let (low, high) = (i64::from_le_bytes(low), i64::from_le_bytes(high));
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_set_epi64x(high, low)))
    };
    let factors = |block: &[u8; Q4K_BYTES]| {
        let both = i32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        _mm_cvtph_ps(_mm_cvtsi32_si128(both))
    };
    // lanes: d, dmin of the first block, d, dmin of the second
    let factors = _mm_movelh_ps(factors(first), factors(second));
    let all = _mm512_castps128_ps512(factors);
    let (zeros, eights) = (_mm512_set1_epi32(0), _mm512_set1_epi32(2));
    let d = _mm512_mask_blend_epi32(0xff00, zeros, eights);
    let dmin = _mm512_add_epi32(d, _mm512_set1_epi32(1));
    let (d, dmin) = (
        _mm512_permutexvar_ps(d, all),
        _mm512_permutexvar_ps(dmin, all),
    );
    let dmin = _mm512_mul_ps(dmin, _mm512_set1_ps(1.0 / 128.0));
    (
        _mm512_mul_ps(widen(s0, s1), d),
        _mm512_mul_ps(widen(m0, m1), dmin),
    )
}

/// Unpacks a group that may end early, without reading beyond `readable` bytes.
///
/// # Safety
/// The first `blocks` × 32 columns at `p` are the row's; `readable` bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn tail<F: Format>(p: *const u8, blocks: usize, readable: usize) -> Group {
    let lanes = super::lanes::first_lanes(blocks);
    // SAFETY: either the bytes are there, or a copy of them with zeros behind.
    unsafe {
        if readable >= F::STORED {
            // what follows is the next row: its lanes have a scale of zero, and so do those of
            // the activations
            return F::group(p, lanes);
        }
        let mut copy = [0_u8; STORED];
        std::ptr::copy_nonoverlapping(p, copy.as_mut_ptr(), blocks * F::STORED / GROUP_BLOCKS);
        F::group(copy.as_ptr(), lanes)
    }
}
