//! Attention of one 64-token block.

use super::coming::Coming;
use super::lanes::{self, first_lanes};
use super::stored;
use super::{F16, F32};
use crate::attention::{Block, BlockMath, Softmax, decode_rows};
use crate::kv::{KV_TOKENS, KvType};
use core::arch::x86_64::*;
use std::ops::Range;

pub(crate) struct Math;

impl BlockMath for Math {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn decode(block: &Block<'_>, out: &mut [f32]) {
        decode_rows(block, out, |ty, bytes, out| match ty {
            KvType::F32 => floats::<F32>(bytes, out),
            KvType::F16 => floats::<F16>(bytes, out),
            KvType::Q8 => blocks(bytes, out),
        });
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn scores(block: &Block<'_>, q: &[f32], room: &mut [f32], s: &mut [f32]) {
        if stored::takes(block) {
            return stored::scores(block, q, s);
        }
        // SAFETY: the caller's.
        unsafe {
            Self::decode(block, room);
            Self::decoded_scores(block, q, room, s);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn decoded_scores(block: &Block<'_>, q: &[f32], k: &[f32], s: &mut [f32]) {
        let (pad, seen) = (block.pad(), block.seen);
        let parts = seen.len().div_ceil(2) * KV_TOKENS / 8;
        let mut coming = Coming::new(block.ahead, parts);
        for i in (0..seen.len() / 2 * 2).step_by(2) {
            let (q, s) = (
                &q[i * pad..][..2 * pad],
                &mut s[i * KV_TOKENS..][..2 * KV_TOKENS],
            );
            let start = seen[i].start.min(seen[i + 1].start);
            let end = seen[i].end.max(seen[i + 1].end);
            for first in (start / 8 * 8..end).step_by(8) {
                coming.part();
                scores8x2(q, &k[first * pad..][..8 * pad], s, first);
            }
        }
        if let Some(i) = seen.len().checked_sub(1).filter(|i| i % 2 == 0) {
            let (q, s) = (&q[i * pad..][..pad], &mut s[i * KV_TOKENS..][..KV_TOKENS]);
            for first in (seen[i].start / 16 * 16..seen[i].end).step_by(16) {
                coming.part();
                coming.part();
                scores16(q, &k[first * pad..][..16 * pad], &mut s[first..][..16]);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn soften(s: &mut [f32], seen: &Range<usize>, scale: f32, state: &mut Softmax) -> f32 {
        if seen.is_empty() {
            return 1.0;
        }
        let s = s.as_chunks_mut::<16>().0;
        let low = _mm512_set1_ps(f32::NEG_INFINITY);
        let scale = _mm512_set1_ps(scale);
        let mut x = [low; KV_TOKENS / 16];
        let mut top = low;
        for (i, x) in x.iter_mut().enumerate() {
            let mask = first_lanes(seen.end.saturating_sub(i * 16))
                & !first_lanes(seen.start.saturating_sub(i * 16));
            // SAFETY: a chunk has 16 floats.
            let loaded = unsafe { _mm512_loadu_ps(s[i].as_ptr()) };
            *x = _mm512_mask_mul_ps(low, mask, loaded, scale);
            top = _mm512_max_ps(top, *x);
        }
        let max = lanes::max(top).max(state.max);
        let all = _mm512_set1_ps(max);
        let mut sum = _mm512_setzero_ps();
        for (s, x) in s.iter_mut().zip(x) {
            // unseen scores are -inf: their weight is exactly zero
            let weight = lanes::exp(_mm512_sub_ps(x, all));
            sum = _mm512_add_ps(sum, weight);
            // SAFETY: a chunk has 16 floats.
            unsafe { _mm512_storeu_ps(s.as_mut_ptr(), weight) };
        }
        let change = _mm512_set1_ps(state.max - max);
        let factor = _mm512_cvtss_f32(lanes::exp(change));
        *state = Softmax {
            max,
            sum: state.sum * factor + lanes::sum(sum),
        };
        factor
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn weigh(
        block: &Block<'_>,
        s: &[f32],
        factors: &[f32],
        room: &mut [f32],
        acc: &mut [f32],
    ) {
        if stored::takes(block) {
            return stored::weigh(block, s, factors, acc);
        }
        // SAFETY: the caller's.
        unsafe {
            Self::decode(block, room);
            Self::weigh_decoded(block, s, factors, room, acc);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn weigh_decoded(
        block: &Block<'_>,
        s: &[f32],
        factors: &[f32],
        v: &[f32],
        acc: &mut [f32],
    ) {
        let (pad, seen) = (block.pad(), block.seen);
        let parts = seen.len().div_ceil(2) * KV_TOKENS * pad.div_ceil(128);
        let mut coming = Coming::new(block.ahead, parts);
        let mut i = 0;
        while i < seen.len() {
            let acc = &mut acc[i * pad..];
            let s = &s[i * KV_TOKENS..];
            let tokens = &seen[i];
            // queries that see the same tokens share the loads of the values
            i += if seen.get(i + 1) == Some(tokens) {
                weigh_queries::<2>(s, v, pad, tokens, &factors[i..], &mut coming, acc)
            } else {
                weigh_queries::<1>(s, v, pad, tokens, &factors[i..], &mut coming, acc)
            };
        }
    }
}

/// Adds the weighted values to the sums of `Q` queries that see the same tokens; returns `Q`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn weigh_queries<const Q: usize>(
    s: &[f32],
    v: &[f32],
    pad: usize,
    seen: &Range<usize>,
    factors: &[f32],
    coming: &mut Coming<'_>,
    acc: &mut [f32],
) -> usize {
    let mut at = 0;
    while at < pad {
        let (v, acc) = (&v[at..], &mut acc[at..]);
        at += match pad - at {
            16..64 => weigh_some::<Q, 1>(s, v, pad, seen, factors, coming, acc),
            64..128 => weigh_some::<Q, 4>(s, v, pad, seen, factors, coming, acc),
            _ => weigh_some::<Q, 8>(s, v, pad, seen, factors, coming, acc),
        };
    }
    Q
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn floats<const T: u8>(bytes: &[u8], out: &mut [f32]) {
    let len = out.len();
    let size = lanes::elem_bytes::<T>();
    assert_eq!(bytes.len(), len * size, "bytes of kv rows");
    let whole = len / 16 * 16;
    for at in (0..whole).step_by(16) {
        // SAFETY: sixteen elements from `at` on are there, of both.
        unsafe {
            let x = lanes::load::<T>(bytes.as_ptr().add(at * size));
            _mm512_storeu_ps(out.as_mut_ptr().add(at), x);
        }
    }
    if whole < len {
        let mask = first_lanes(len - whole);
        // SAFETY: masked to the rows.
        unsafe {
            let x = lanes::load_masked::<T>(bytes[whole * size..].as_ptr(), mask);
            _mm512_mask_storeu_ps(out[whole..].as_mut_ptr(), mask, x);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn blocks(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes
        .as_chunks::<34>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<32>().0)
    {
        let scale = i32::from(u16::from_le_bytes([block[0], block[1]]));
        let scale = _mm512_cvtph_ps(_mm256_set1_epi16(scale as i16));
        for half in 0..2 {
            // SAFETY: 16 bytes of the block's 34, 16 floats of the output's 32.
            unsafe {
                let x = _mm_loadu_si128(block.as_ptr().add(2 + half * 16).cast());
                let x = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x));
                _mm512_storeu_ps(out.as_mut_ptr().add(half * 16), _mm512_mul_ps(x, scale));
            }
        }
    }
}

/// Dot products of one query with sixteen tokens; tokens that are not seen give garbage.
///
/// Shapes: `q` (pad), `k` (16, pad), `s` (16).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn scores16(q: &[f32], k: &[f32], s: &mut [f32]) {
    let pad = q.len();
    assert!(
        k.len() == 16 * pad && s.len() == 16 && pad.is_multiple_of(16),
        "sixteen tokens"
    );
    let mut chains = [_mm512_setzero_ps(); 16];
    // SAFETY: `at` + 16 stays inside each row of `pad` floats.
    unsafe {
        for at in (0..pad).step_by(16) {
            let q = _mm512_loadu_ps(q.as_ptr().add(at));
            for (token, chain) in chains.iter_mut().enumerate() {
                let k = _mm512_loadu_ps(k.as_ptr().add(token * pad + at));
                *chain = _mm512_fmadd_ps(q, k, *chain);
            }
        }
        _mm512_storeu_ps(s.as_mut_ptr(), lanes::sums(chains));
    }
}

/// Dot products of two queries with eight tokens from `first` on; as [`scores16`].
///
/// Shapes: `q` (2, pad), `k` (8, pad), `s` (2, 64).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn scores8x2(q: &[f32], k: &[f32], s: &mut [f32], first: usize) {
    let pad = q.len() / 2;
    assert!(k.len() == 8 * pad && pad.is_multiple_of(16), "eight tokens");
    assert!(
        s.len() == 2 * KV_TOKENS && first + 8 <= KV_TOKENS,
        "scores of two queries"
    );
    let mut chains = [_mm512_setzero_ps(); 16];
    // SAFETY: `at` + 16 stays inside each row of `pad` floats; the scores were just checked.
    unsafe {
        for at in (0..pad).step_by(16) {
            let q0 = _mm512_loadu_ps(q.as_ptr().add(at));
            let q1 = _mm512_loadu_ps(q.as_ptr().add(pad + at));
            for token in 0..8 {
                let k = _mm512_loadu_ps(k.as_ptr().add(token * pad + at));
                chains[token] = _mm512_fmadd_ps(q0, k, chains[token]);
                chains[8 + token] = _mm512_fmadd_ps(q1, k, chains[8 + token]);
            }
        }
        let sums = lanes::sums(chains);
        _mm256_storeu_ps(s.as_mut_ptr().add(first), _mm512_castps512_ps256(sums));
        let high = _mm512_extractf32x8_ps::<1>(sums);
        _mm256_storeu_ps(s.as_mut_ptr().add(KV_TOKENS + first), high);
    }
}

/// Adds the weighted values of `N` × 16 elements for `Q` queries; returns their number.
///
/// Shapes: `s` (Q, 64), `factors` (Q), `acc` (Q, pad), `v` (64, pad).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn weigh_some<const Q: usize, const N: usize>(
    s: &[f32],
    v: &[f32],
    pad: usize,
    seen: &Range<usize>,
    factors: &[f32],
    coming: &mut Coming<'_>,
    acc: &mut [f32],
) -> usize {
    assert!(acc.len() >= (Q - 1) * pad + N * 16, "room for the sums");
    assert!(
        seen.is_empty() || v.len() >= (seen.end - 1) * pad + N * 16,
        "values of all tokens"
    );
    let mut sums = [[_mm512_setzero_ps(); N]; Q];
    // SAFETY: the assertions above.
    unsafe {
        for i in 0..Q {
            let factor = _mm512_set1_ps(factors[i]);
            for n in 0..N {
                let old = _mm512_loadu_ps(acc.as_ptr().add(i * pad + n * 16));
                sums[i][n] = _mm512_mul_ps(old, factor);
            }
        }
        for token in seen.clone() {
            coming.part();
            let mut weights = [_mm512_setzero_ps(); Q];
            for i in 0..Q {
                weights[i] = _mm512_set1_ps(s[i * KV_TOKENS + token]);
            }
            for n in 0..N {
                let v = _mm512_loadu_ps(v.as_ptr().add(token * pad + n * 16));
                for i in 0..Q {
                    sums[i][n] = _mm512_fmadd_ps(weights[i], v, sums[i][n]);
                }
            }
        }
        for i in 0..Q {
            for n in 0..N {
                _mm512_storeu_ps(acc.as_mut_ptr().add(i * pad + n * 16), sums[i][n]);
            }
        }
    }
    N * 16
}
