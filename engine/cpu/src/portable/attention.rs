//! Attention of one 64-token block in lanes.

use super::lanes;
use crate::attention::{Block, BlockMath, Softmax, decode_rows};
use crate::kv::{self, KV_TOKENS};
use std::ops::Range;

pub(crate) struct Math;

impl BlockMath for Math {
    unsafe fn scores(block: &Block<'_>, q: &[f32], room: &mut [f32], s: &mut [f32]) {
        decode_rows(block, room, kv::decode);
        let (k, pad) = (room, block.pad());
        for ((q, s), seen) in q
            .chunks_exact(pad)
            .zip(s.chunks_exact_mut(KV_TOKENS))
            .zip(block.seen)
        {
            for token in seen.clone() {
                s[token] = lanes::dot(q, &k[token * pad..][..pad]);
            }
        }
    }

    unsafe fn soften(s: &mut [f32], seen: &Range<usize>, scale: f32, state: &mut Softmax) -> f32 {
        let s = &mut s[seen.clone()];
        if s.is_empty() {
            return 1.0;
        }
        let max = s.iter().fold(state.max, |max, s| max.max(s * scale));
        let factor = (state.max - max).exp();
        state.max = max;
        state.sum *= factor;
        for s in s {
            *s = (*s * scale - max).exp();
            state.sum += *s;
        }
        factor
    }

    unsafe fn weigh(
        block: &Block<'_>,
        s: &[f32],
        factors: &[f32],
        room: &mut [f32],
        acc: &mut [f32],
    ) {
        decode_rows(block, room, kv::decode);
        let (v, pad) = (room, block.pad());
        for (i, acc) in acc.chunks_exact_mut(pad).enumerate() {
            for acc in acc.iter_mut() {
                *acc *= factors[i];
            }
            for token in block.seen[i].clone() {
                let weight = s[i * KV_TOKENS + token];
                for (acc, v) in acc.iter_mut().zip(&v[token * pad..][..pad]) {
                    *acc += weight * v;
                }
            }
        }
    }
}
