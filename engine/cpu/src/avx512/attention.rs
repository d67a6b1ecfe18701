//! Attention of one 64-token block.
//!
//! Few queries take stored elements as they are; for many, they are converted into memory once.
//! Converted ones are four bytes each, and do not stay in the first-level cache beside the stream
//! of stored ones. The sums are the same, bit for bit.

use super::lanes::{self, first_lanes};
use super::rows::{self, F16Element, F32Element, Q8Element, Rows, TOGETHER};
use super::{F16, F32};
use crate::attention::{Block, BlockMath, Softmax, decode_rows};
use crate::kv::{KV_TOKENS, KvType};
use core::arch::x86_64::*;
use std::ops::Range;

/// Queries up to which converting again for each [`TOGETHER`] is faster than converting once into
/// memory.
const FEW: usize = 2 * TOGETHER;

pub(crate) struct Math;

/// Whether the queries of `block` take stored elements as they are.
fn takes_stored(block: &Block<'_>) -> bool {
    block.seen.len() <= FEW && block.kv.head_dim().is_multiple_of(16)
}

/// Converts the tokens that are needed to float32 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn convert<'a>(block: &Block<'_>, room: &'a mut [f32]) -> Rows<'a> {
    decode_rows(block, room, |ty, bytes, out| match ty {
        KvType::F32 => floats::<F32>(bytes, out),
        KvType::F16 => floats::<F16>(bytes, out),
        KvType::Q8 => blocks(bytes, out),
    });
    Rows::converted(room, block.pad())
}

impl BlockMath for Math {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn scores(block: &Block<'_>, q: &[f32], room: &mut [f32], s: &mut [f32]) {
        // SAFETY: rows have the elements of the type, converted ones are float32.
        unsafe {
            if !takes_stored(block) {
                return rows::scores::<F32Element>(&convert(block, room), block, q, s);
            }
            let keys = Rows::stored(block);
            match block.kv.ty() {
                KvType::F32 => rows::scores::<F32Element>(&keys, block, q, s),
                KvType::F16 => rows::scores::<F16Element>(&keys, block, q, s),
                KvType::Q8 => rows::scores::<Q8Element>(&keys, block, q, s),
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
        // SAFETY: as in `scores`.
        unsafe {
            if !takes_stored(block) {
                let values = convert(block, room);
                return rows::weigh::<F32Element>(&values, block, s, factors, acc);
            }
            let values = Rows::stored(block);
            match block.kv.ty() {
                KvType::F32 => rows::weigh::<F32Element>(&values, block, s, factors, acc),
                KvType::F16 => rows::weigh::<F16Element>(&values, block, s, factors, acc),
                KvType::Q8 => rows::weigh::<Q8Element>(&values, block, s, factors, acc),
            }
        }
    }
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
