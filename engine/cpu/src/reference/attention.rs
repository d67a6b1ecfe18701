//! Attention of one 64-token block from the definition of the online softmax, token by token.

use crate::attention::{Block, BlockMath, Softmax, decode_rows};
use crate::kv::{self, KV_TOKENS};
use std::ops::Range;

pub(crate) struct Math;

impl BlockMath for Math {
    unsafe fn scores(block: &Block<'_>, q: &[f32], room: &mut [f32], s: &mut [f32]) {
        decode_rows(block, room, kv::decode);
        let (k, pad) = (room, block.pad());
        for (i, q) in q.chunks_exact(pad).enumerate() {
            for token in block.seen[i].clone() {
                let k = &k[token * pad..][..pad];
                let dot = q.iter().zip(k).fold(0.0, |sum, (q, k)| sum + q * k);
                s[i * KV_TOKENS + token] = dot;
            }
        }
    }

    unsafe fn soften(s: &mut [f32], seen: &Range<usize>, scale: f32, state: &mut Softmax) -> f32 {
        let scores = &mut s[seen.clone()];
        let max = scores
            .iter()
            .fold(state.max, |max, score| max.max(score * scale));
        if max == f32::NEG_INFINITY {
            return 1.0;
        }
        let factor = (state.max - max).exp();
        let mut sum = state.sum * factor;
        for score in scores {
            *score = (*score * scale - max).exp();
            sum += *score;
        }
        *state = Softmax { max, sum };
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
            for (element, acc) in acc.iter_mut().enumerate() {
                let values = block.seen[i]
                    .clone()
                    .map(|token| s[i * KV_TOKENS + token] * v[token * pad + element]);
                *acc = values.fold(*acc * factors[i], |sum, value| sum + value);
            }
        }
    }
}
