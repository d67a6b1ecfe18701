//! Attention of one 64-token block for few queries, straight from stored keys and values.
//!
//! Each stored element is converted once for up to four queries, in a register. What is converted
//! into memory first is four bytes an element, and does not stay in the first-level cache beside
//! the stream of stored ones. The sums are those of [`super::attention`], bit for bit.

use super::coming::Coming;
use super::lanes;
use super::{F16, F32};
use crate::attention::Block;
use crate::kv::{KV_TOKENS, KvType};
use core::arch::x86_64::*;
use std::ops::Range;

/// Queries that share the conversion of an element.
const TOGETHER: usize = 4;
/// Queries up to which converting again for each [`TOGETHER`] is faster than converting once into
/// memory.
const QUERIES_MAX: usize = 2 * TOGETHER;

/// Stored elements of one head.
trait Element {
    /// Elements `at..at + 16` of the row that starts at `row`, as float32; `at` is a multiple
    /// of 16.
    ///
    /// # Safety
    /// The CPU has the flags of this module; the row has them.
    unsafe fn load(row: *const u8, at: usize) -> __m512;
}

struct Float<const T: u8>;

impl<const T: u8> Element for Float<T> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn load(row: *const u8, at: usize) -> __m512 {
        // SAFETY: the caller's.
        unsafe { lanes::load::<T>(row.add(at * lanes::elem_bytes::<T>())) }
    }
}

/// Blocks of 32 signed bytes behind their scale.
struct Q8;

impl Element for Q8 {
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

/// Whether `block` is for [`scores`] and [`weigh`].
pub(super) fn takes(block: &Block<'_>) -> bool {
    block.seen.len() <= QUERIES_MAX && block.kv.head_dim().is_multiple_of(16)
}

/// As [`crate::attention::BlockMath::scores`], of a block that [`takes`] names.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn scores(block: &Block<'_>, q: &[f32], s: &mut [f32]) {
    match block.kv.ty() {
        KvType::F32 => all_scores::<Float<F32>>(block, q, s),
        KvType::F16 => all_scores::<Float<F16>>(block, q, s),
        KvType::Q8 => all_scores::<Q8>(block, q, s),
    }
}

/// As [`crate::attention::BlockMath::weigh`], of a block that [`takes`] names.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn weigh(block: &Block<'_>, s: &[f32], factors: &[f32], acc: &mut [f32]) {
    match block.kv.ty() {
        KvType::F32 => weigh_all::<Float<F32>>(block, s, factors, acc),
        KvType::F16 => weigh_all::<Float<F16>>(block, s, factors, acc),
        KvType::Q8 => weigh_all::<Q8>(block, s, factors, acc),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn all_scores<E: Element>(block: &Block<'_>, q: &[f32], s: &mut [f32]) {
    let dim = block.kv.head_dim();
    let parts = block.seen.len().div_ceil(TOGETHER) * KV_TOKENS / 4;
    let mut coming = Coming::new(block.ahead, parts);
    let mut i = 0;
    while i < block.seen.len() {
        let (q, s) = (&q[i * dim..], &mut s[i * KV_TOKENS..]);
        let seen = &block.seen[i..];
        i += match seen.len() {
            1 => scores_of::<E, 1, 16>(block, seen, q, &mut coming, s),
            2 | 3 => scores_of::<E, 2, 8>(block, seen, q, &mut coming, s),
            _ => scores_of::<E, 4, 4>(block, seen, q, &mut coming, s),
        };
    }
}

/// Scores of the first `Q` queries, `T` tokens at once: sixteen chains. Returns `Q`.
///
/// Shapes: `q` (Q.., dim), `s` (Q.., 64). Tokens that are not seen give garbage.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn scores_of<E: Element, const Q: usize, const T: usize>(
    block: &Block<'_>,
    seen: &[Range<usize>],
    q: &[f32],
    coming: &mut Coming<'_>,
    s: &mut [f32],
) -> usize {
    let (dim, row_bytes) = (block.kv.head_dim(), block.kv.row_bytes());
    assert!(
        block.bytes.len() == KV_TOKENS * row_bytes && q.len() >= Q * dim,
        "keys and queries"
    );
    let start = seen[..Q].iter().map(|seen| seen.start).min().unwrap_or(0);
    let end = seen[..Q].iter().map(|seen| seen.end).max().unwrap_or(0);
    for first in (start / T * T..end).step_by(T) {
        for _ in 0..T / 4 {
            coming.part();
        }
        let mut chains = [_mm512_setzero_ps(); 16];
        // SAFETY: `first + T` is at most 64, and `at + 16` at most `dim`.
        unsafe {
            let rows = block.bytes.as_ptr().add(first * row_bytes);
            for at in (0..dim).step_by(16) {
                let mut queries = [_mm512_setzero_ps(); Q];
                for (i, query) in queries.iter_mut().enumerate() {
                    *query = _mm512_loadu_ps(q.as_ptr().add(i * dim + at));
                }
                for token in 0..T {
                    let k = E::load(rows.add(token * row_bytes), at);
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

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn weigh_all<E: Element>(block: &Block<'_>, s: &[f32], factors: &[f32], acc: &mut [f32]) {
    let dim = block.kv.head_dim();
    let parts = block.seen.len().div_ceil(TOGETHER) * KV_TOKENS * dim.div_ceil(64);
    let mut coming = Coming::new(block.ahead, parts);
    let mut i = 0;
    while i < block.seen.len() {
        let same = block.seen[i..]
            .iter()
            .take_while(|seen| **seen == block.seen[i]);
        let (s, factors, acc) = (&s[i * KV_TOKENS..], &factors[i..], &mut acc[i * dim..]);
        let seen = &block.seen[i];
        i += match same.count() {
            1 => weigh_of::<E, 1>(block, seen, s, factors, &mut coming, acc),
            2 | 3 => weigh_of::<E, 2>(block, seen, s, factors, &mut coming, acc),
            _ => weigh_of::<E, 4>(block, seen, s, factors, &mut coming, acc),
        };
    }
}

/// The first `Q` queries, which see the same tokens. Returns `Q`.
///
/// Shapes: `s` (Q.., 64), `factors` (Q..), `acc` (Q.., dim).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn weigh_of<E: Element, const Q: usize>(
    block: &Block<'_>,
    seen: &Range<usize>,
    s: &[f32],
    factors: &[f32],
    coming: &mut Coming<'_>,
    acc: &mut [f32],
) -> usize {
    let dim = block.kv.head_dim();
    let mut at = 0;
    while at < dim {
        at += match dim - at {
            16..64 => weigh_some::<E, Q, 1>(block, seen, at, s, factors, coming, acc),
            128.. if Q < 4 => weigh_some::<E, Q, 8>(block, seen, at, s, factors, coming, acc),
            _ => weigh_some::<E, Q, 4>(block, seen, at, s, factors, coming, acc),
        };
    }
    Q
}

/// Elements `at..at + 16 * N` of the sums of `Q` queries; returns their number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn weigh_some<E: Element, const Q: usize, const N: usize>(
    block: &Block<'_>,
    seen: &Range<usize>,
    at: usize,
    s: &[f32],
    factors: &[f32],
    coming: &mut Coming<'_>,
    acc: &mut [f32],
) -> usize {
    let (dim, row_bytes) = (block.kv.head_dim(), block.kv.row_bytes());
    assert!(
        block.bytes.len() == KV_TOKENS * row_bytes && seen.end <= KV_TOKENS,
        "values of all tokens"
    );
    assert!(
        acc.len() >= Q * dim && at + 16 * N <= dim,
        "room for the sums"
    );
    let mut sums = [[_mm512_setzero_ps(); N]; Q];
    // SAFETY: the assertions above.
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
            let row = block.bytes.as_ptr().add(token * row_bytes);
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
