//! Stored Q8_0 blocks into the lane order of [`crate::q8`].

use crate::q8::GROUP_BLOCKS;
use core::arch::x86_64::*;

/// Bytes of a stored group of sixteen blocks.
pub(super) const STORED: usize = GROUP_BLOCKS * 34;

/// A group of sixteen blocks of one weight row, lane b from block b.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Weights plus 128, unsigned; dwords on the diagonal as in [`crate::q8`].
    pub(super) values: [__m512i; 8],
    /// Scales; zero in the lanes beyond the row.
    pub(super) scales: __m512,
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

/// Unpacks the group at `p`; blocks outside of `lanes` get a scale of zero.
///
/// # Safety
/// `p` has [`STORED`] readable bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn group(p: *const u8, lanes: __mmask16) -> Group {
    let zero = _mm512_setzero_si512();
    let bias = _mm512_set1_epi8(-128);
    // SAFETY: block b spans bytes 34 b .. 34 b + 34 of the caller's 544; the tables have 64.
    unsafe {
        // vector i: dwords of block i, then those of block i + 8
        let mut x = [zero; 8];
        for (i, x) in x.iter_mut().enumerate() {
            let low = _mm256_loadu_si256(p.add(34 * i + 2).cast());
            let high = _mm256_loadu_si256(p.add(34 * (i + 8) + 2).cast());
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            *x = _mm512_xor_si512(both, bias);
        }
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
            let rotation = _mm512_loadu_si512(ROTATIONS[k].as_ptr().cast());
            values[k] = _mm512_permutexvar_epi32(rotation, values[k]);
        }
        Group {
            values,
            scales: scales(p, lanes),
        }
    }
}

/// Calls [`group`] for a group that may end early, without reading beyond `readable` bytes.
///
/// # Safety
/// `p` has `readable` readable bytes, of which the first `blocks` × 34 are the row's.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn tail(p: *const u8, blocks: usize, readable: usize) -> Group {
    let lanes = super::lanes::first_lanes(blocks);
    // SAFETY: either the bytes are there, or a copy of them with zeros behind.
    unsafe {
        if readable >= STORED {
            // what follows is the next row: its lanes have a scale of zero, and so do those of
            // the activations
            return group(p, lanes);
        }
        let mut copy = [0_u8; STORED];
        std::ptr::copy_nonoverlapping(p, copy.as_mut_ptr(), blocks * 34);
        group(copy.as_ptr(), lanes)
    }
}
