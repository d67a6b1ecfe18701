//! Keys and values of one head in a 64-token block, and their products with queries: read as they
//! are stored, or converted to float32 before.
//!
//! Each element is loaded, and converted, once for up to four queries, in a register.

use super::coming::Coming;
use super::lanes;
use super::{F16, F32};
use crate::attention::Block;
use crate::kv::KV_TOKENS;
use core::arch::x86_64::*;
use std::ops::Range;

/// Queries that share the load of an element.
pub(super) const TOGETHER: usize = 4;

/// What the elements of rows are.
pub(super) trait Element {
    /// Elements `at..at + 16` of the row that starts at `row`, as float32; `at` is a multiple
    /// of 16.
    ///
    /// # Safety
    /// The CPU has the flags of this module; the row has them.
    unsafe fn load(row: *const u8, at: usize) -> __m512;
}

pub(super) struct Float<const T: u8>;

pub(super) type F32Element = Float<F32>;
pub(super) type F16Element = Float<F16>;

impl<const T: u8> Element for Float<T> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn load(row: *const u8, at: usize) -> __m512 {
        // SAFETY: the caller's.
        unsafe { lanes::load::<T>(row.add(at * lanes::elem_bytes::<T>())) }
    }
}

/// Blocks of 32 signed bytes behind their scale.
pub(super) struct Q8Element;

impl Element for Q8Element {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn load(row: *const u8, at: usize) -> __m512 {
        // SAFETY: the caller's: sixteen bytes of the block that holds them, and its scale.
        unsafe {
            let block = row.add(at / 32 * 34);
            let scale = _mm512_cvtph_ps(_mm256_set1_epi16(block.cast::<i16>().read_unaligned()));
            let x = _mm_loadu_si128(block.add(2 + at % 32).cast());
            _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x)), scale)
        }
    }
}

/// The 64 rows of a head.
pub(super) struct Rows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
    /// Elements of a row: a multiple of 16.
    dim: usize,
}

impl<'a> Rows<'a> {
    /// Those of `block` as they are stored; the elements of a head are a multiple of 16.
    pub(super) fn stored(block: &Block<'a>) -> Self {
        Self {
            bytes: block.bytes,
            row_bytes: block.kv.row_bytes(),
            dim: block.kv.head_dim(),
        }
    }

    /// Float32 rows of `pad` elements; [`F32Element`].
    pub(super) fn converted(room: &'a [f32], pad: usize) -> Self {
        let room = &room[..KV_TOKENS * pad];
        Self {
            // SAFETY: floats are bytes, four each.
            bytes: unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), room.len() * 4) },
            row_bytes: pad * 4,
            dim: pad,
        }
    }

    /// # Panics
    /// If the rows are not as they say; what is read of them then exists.
    fn check(&self) {
        let is_whole = self.bytes.len() == KV_TOKENS * self.row_bytes;
        assert!(is_whole && self.dim.is_multiple_of(16), "rows of 64 tokens");
    }
}

/// As [`crate::attention::BlockMath::scores`], from the keys in `rows`.
///
/// # Safety
/// The elements of `rows` are `E`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn scores<E: Element>(
    rows: &Rows<'_>,
    block: &Block<'_>,
    q: &[f32],
    s: &mut [f32],
) {
    rows.check();
    let parts = block.seen.len().div_ceil(TOGETHER) * KV_TOKENS / 4;
    let mut coming = Coming::new(block.ahead, parts);
    let mut i = 0;
    while i < block.seen.len() {
        let (q, s) = (&q[i * rows.dim..], &mut s[i * KV_TOKENS..]);
        let seen = &block.seen[i..];
        // SAFETY: the caller's; the rows were checked.
        i += unsafe {
            match seen.len() {
                1 => scores_of::<E, 1, 16>(rows, seen, q, &mut coming, s),
                2 | 3 => scores_of::<E, 2, 8>(rows, seen, q, &mut coming, s),
                _ => scores_of::<E, 4, 4>(rows, seen, q, &mut coming, s),
            }
        };
    }
}

/// Scores of the first `Q` queries, `T` tokens at once: sixteen chains. Returns `Q`.
///
/// Shapes: `q` (Q.., dim), `s` (Q.., 64). Tokens that are not seen give garbage.
///
/// # Safety
/// As [`scores`], of rows that were checked.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn scores_of<E: Element, const Q: usize, const T: usize>(
    rows: &Rows<'_>,
    seen: &[Range<usize>],
    q: &[f32],
    coming: &mut Coming<'_>,
    s: &mut [f32],
) -> usize {
    let (dim, row_bytes) = (rows.dim, rows.row_bytes);
    assert!(q.len() >= Q * dim, "queries");
    let start = seen[..Q].iter().map(|seen| seen.start).min().unwrap_or(0);
    let end = seen[..Q].iter().map(|seen| seen.end).max().unwrap_or(0);
    assert!(end <= KV_TOKENS, "tokens of a block");
    for first in (start / T * T..end).step_by(T) {
        for _ in 0..T / 4 {
            coming.part();
        }
        let mut chains = [_mm512_setzero_ps(); 16];
        // SAFETY: `first + T` is at most 64, and `at + 16` at most `dim`; the caller's.
        unsafe {
            let keys = rows.bytes.as_ptr().add(first * row_bytes);
            for at in (0..dim).step_by(16) {
                let mut queries = [_mm512_setzero_ps(); Q];
                for (i, query) in queries.iter_mut().enumerate() {
                    *query = _mm512_loadu_ps(q.as_ptr().add(i * dim + at));
                }
                for token in 0..T {
                    let k = E::load(keys.add(token * row_bytes), at);
                    for i in 0..Q {
                        chains[i * T + token] =
                            _mm512_fmadd_ps(queries[i], k, chains[i * T + token]);
                    }
                }
            }
        }
        let mut sums = [0.0; 16];
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), lanes::sums(chains)) };
        for (i, sums) in sums.as_chunks::<T>().0.iter().enumerate() {
            s[i * KV_TOKENS + first..][..T].copy_from_slice(sums);
        }
    }
    Q
}

/// As [`crate::attention::BlockMath::weigh`], of the values in `rows`.
///
/// # Safety
/// As [`scores`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn weigh<E: Element>(
    rows: &Rows<'_>,
    block: &Block<'_>,
    s: &[f32],
    factors: &[f32],
    acc: &mut [f32],
) {
    rows.check();
    let dim = rows.dim;
    let parts = block.seen.len().div_ceil(TOGETHER) * KV_TOKENS * dim.div_ceil(64);
    let mut coming = Coming::new(block.ahead, parts);
    let mut i = 0;
    while i < block.seen.len() {
        let same = block.seen[i..]
            .iter()
            .take_while(|seen| **seen == block.seen[i]);
        let (s, factors, acc) = (&s[i * KV_TOKENS..], &factors[i..], &mut acc[i * dim..]);
        let seen = &block.seen[i];
        // SAFETY: the caller's; the rows were checked.
        i += unsafe {
            match same.count() {
                1 => weigh_of::<E, 1>(rows, seen, s, factors, &mut coming, acc),
                2 | 3 => weigh_of::<E, 2>(rows, seen, s, factors, &mut coming, acc),
                _ => weigh_of::<E, 4>(rows, seen, s, factors, &mut coming, acc),
            }
        };
    }
}

/// The first `Q` queries, which see the same tokens. Returns `Q`.
///
/// Shapes: `s` (Q.., 64), `factors` (Q..), `acc` (Q.., dim).
///
/// # Safety
/// As [`scores`], of rows that were checked.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn weigh_of<E: Element, const Q: usize>(
    rows: &Rows<'_>,
    seen: &Range<usize>,
    s: &[f32],
    factors: &[f32],
    coming: &mut Coming<'_>,
    acc: &mut [f32],
) -> usize {
    let mut at = 0;
    while at < rows.dim {
        // SAFETY: the caller's.
        at += unsafe {
            match rows.dim - at {
                16..64 => weigh_some::<E, Q, 1>(rows, seen, at, s, factors, coming, acc),
                128.. if Q < 4 => weigh_some::<E, Q, 8>(rows, seen, at, s, factors, coming, acc),
                _ => weigh_some::<E, Q, 4>(rows, seen, at, s, factors, coming, acc),
            }
        };
    }
    Q
}

/// Elements `at..at + 16 * N` of the sums of `Q` queries; returns their number.
///
/// # Safety
/// As [`scores`], of rows that were checked.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn weigh_some<E: Element, const Q: usize, const N: usize>(
    rows: &Rows<'_>,
    seen: &Range<usize>,
    at: usize,
    s: &[f32],
    factors: &[f32],
    coming: &mut Coming<'_>,
    acc: &mut [f32],
) -> usize {
    let (dim, row_bytes) = (rows.dim, rows.row_bytes);
    assert!(seen.end <= KV_TOKENS, "tokens of a block");
    assert!(
        acc.len() >= Q * dim && at + 16 * N <= dim,
        "room for the sums"
    );
    let mut sums = [[_mm512_setzero_ps(); N]; Q];
    // SAFETY: the assertions above, and the caller's.
    unsafe {
        for i in 0..Q {
            let factor = _mm512_set1_ps(factors[i]);
            for n in 0..N {
                let old = _mm512_loadu_ps(acc.as_ptr().add(i * dim + at + n * 16));
                sums[i][n] = _mm512_mul_ps(old, factor);
            }
        }
        for token in seen.clone() {
            coming.part();
            let row = rows.bytes.as_ptr().add(token * row_bytes);
            let mut weights = [_mm512_setzero_ps(); Q];
            for i in 0..Q {
                weights[i] = _mm512_set1_ps(s[i * KV_TOKENS + token]);
            }
            for n in 0..N {
                let v = E::load(row, at + n * 16);
                for i in 0..Q {
                    sums[i][n] = _mm512_fmadd_ps(weights[i], v, sums[i][n]);
                }
            }
        }
        for i in 0..Q {
            for n in 0..N {
                _mm512_storeu_ps(acc.as_mut_ptr().add(i * dim + at + n * 16), sums[i][n]);
            }
        }
    }
    N * 16
}
