//! Stored blocks of quantised weights into the lane order of [`crate::q8`].
//!
//! A group is 512 columns: sixteen blocks of Q8_0, two of Q4_K with eight sub-blocks each.

use crate::decode::Q4K_BYTES;
use crate::q8::GROUP_BLOCKS;
use core::arch::x86_64::*;

/// A stored format of quantised weights.
pub(super) trait Format {
    /// Bytes of a stored group of 512 columns.
    const STORED: usize;
    /// Weights are unsigned and blocks have minimums; else they are signed and 128 was added.
    const MINIMUMS: bool;
    /// Lanes whose values come sixteen times too large: nibbles that stand high in their bytes.
    const HIGH: __mmask16;

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
    /// Unsigned weights, in the lanes of [`Format::HIGH`] times 16; dwords on the diagonal as in
    /// [`crate::q8`].
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

/// Last round of blends and rotation in one: lane j of vector k takes lane (j - k) mod 8 of the
/// same half, from the first of two vectors if that is below 4, else from the second.
const ROTATIONS: [[i32; 16]; 8] = {
    let mut all = [[0; 16]; 8];
    let mut i = 0;
    while i < 128 {
        let (k, lane) = (i / 16, i % 16);
        let source = (lane % 8 + 8 - k) % 8;
        all[k][lane] = (lane / 8 * 8 + source + source / 4 * 16) as i32;
        i += 1;
    }
    all
};

/// Odd lanes take the even lane before them of the first vector, even lanes the odd lane behind
/// them of the second.
const NEIGHBOURS: [i32; 16] = [17, 0, 19, 2, 21, 4, 23, 6, 25, 8, 27, 10, 29, 12, 31, 14];

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
    // two rounds of blends and one with a rotation: lane l of vector k comes from vector k + l,
    // lane j then holds dword (j - k) mod 8 of block j
    let mut a = [zero; 8];
    let mut b = [zero; 8];
    let mut values = [zero; 8];
    for i in 0..8 {
        a[i] = _mm512_mask_blend_epi32(0xaaaa, x[i], x[(i + 1) % 8]);
    }
    for i in 0..8 {
        b[i] = _mm512_mask_blend_epi32(0xcccc, a[i], a[(i + 2) % 8]);
    }
    for k in 0..8 {
        values[k] = rotated(k, b[k], b[(k + 4) % 8]);
    }
    values
}

/// Lanes of two vectors by row `k` of [`ROTATIONS`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn rotated(k: usize, low: __m512i, high: __m512i) -> __m512i {
    // SAFETY: a row of the table has 64 bytes.
    let lanes = unsafe { _mm512_loadu_si512(ROTATIONS[k].as_ptr().cast()) };
    _mm512_permutex2var_epi32(low, lanes, high)
}

/// The same order from vectors of (32 bytes of one block, of the next) whose low and high nibbles
/// are sub-blocks 2i and 2i + 1: pairs of lanes move while the nibbles are still packed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn diagonal_nibbles(x: [__m512i; 4]) -> [__m512i; 8] {
    let zero = _mm512_setzero_si512();
    let mut pairs = [zero; 4];
    let mut packed = [zero; 4];
    for i in 0..4 {
        pairs[i] = _mm512_mask_blend_epi32(0xcccc, x[i], x[(i + 1) % 4]);
    }
    for i in 0..4 {
        packed[i] = rotated(2 * i, pairs[i], pairs[(i + 2) % 4]);
    }
    // Odd lanes always take the high nibbles, which stay where they are: one shift of a sum is
    // cheaper than one of each vector.
    let nibbles = _mm512_mask_blend_epi32(
        Q4K::HIGH,
        _mm512_set1_epi8(0x0f),
        _mm512_set1_epi8(0xf0_u8 as i8),
    );
    let unpack = |x| _mm512_and_si512(x, nibbles);
    // SAFETY: the table has 64 bytes.
    let neighbours = unsafe { _mm512_loadu_si512(NEIGHBOURS.as_ptr().cast()) };
    let mut values = [zero; 8];
    for i in 0..4 {
        let odd = _mm512_permutex2var_epi32(packed[i], neighbours, packed[(i + 1) % 4]);
        values[2 * i] = unpack(packed[i]);
        values[2 * i + 1] = unpack(odd);
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
    const HIGH: __mmask16 = 0;

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
    const HIGH: __mmask16 = 0xaaaa;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn group(p: *const u8, lanes: __mmask16) -> Group {
        let mut x = [_mm512_setzero_si512(); 4];
        // SAFETY: two blocks of 144 bytes: 16 of factors and scales, 128 of values.
        let (scales, minimums) = unsafe {
            for (i, x) in x.iter_mut().enumerate() {
                let at = 16 + 32 * i;
                *x = halves(p.add(at), p.add(Q4K_BYTES + at));
            }
            q4k_lanes(
                _mm_loadu_si128(p.cast()),
                _mm_loadu_si128(p.add(Q4K_BYTES).cast()),
            )
        };
        Group {
            values: diagonal_nibbles(x),
            scales: _mm512_maskz_mov_ps(lanes, scales),
            minimums: _mm512_maskz_mov_ps(lanes, minimums),
        }
    }
}

/// Scales and minimums ÷ 128 of the sub-blocks of two Q4_K blocks, from their first 16 bytes; as
/// [`crate::decode::q4k_scales`], both blocks at once.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn q4k_lanes(first: __m128i, second: __m128i) -> (__m512, __m512) {
    let each = |a, b, c, d| _mm256_setr_epi32(a, b, c, d, a, b, c, d);
    let (six, four, two) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
    let both = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(first), second);
    // of each block: scales 0..4, 4..8, minimums 0..4, 4..8, one per byte
    let low = _mm256_shuffle_epi32::<0b11_10_11_01>(both);
    let low = _mm256_srlv_epi32(low, each(0, 0, 0, 4));
    let low = _mm256_and_si256(low, each(six, four, six, four));
    let top = _mm256_srli_epi32::<2>(_mm256_shuffle_epi32::<0b10_10_01_01>(both));
    let top = _mm256_and_si256(top, each(0, two, 0, two));
    let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_or_si256(low, top));
    let widen = |bytes| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    // lanes: d, dmin of the first block, d, dmin of the second
    let factors = _mm_cvtph_ps(_mm_unpacklo_epi32(first, second));
    let factors = _mm_mul_ps(factors, _mm_setr_ps(1.0, 1.0 / 128.0, 1.0, 1.0 / 128.0));
    let factors = _mm512_castps128_ps512(factors);
    let d = _mm512_mask_blend_epi32(0xff00, _mm512_set1_epi32(0), _mm512_set1_epi32(2));
    let dmin = _mm512_add_epi32(d, _mm512_set1_epi32(1));
    let scales = widen(_mm256_castsi256_si128(bytes));
    let minimums = widen(_mm256_extracti128_si256::<1>(bytes));
    (
        _mm512_mul_ps(scales, _mm512_permutexvar_ps(d, factors)),
        _mm512_mul_ps(minimums, _mm512_permutexvar_ps(dmin, factors)),
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
