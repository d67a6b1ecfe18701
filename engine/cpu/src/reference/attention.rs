//! Attention from the definition: all scores, softmax, weighted sum.

use crate::attention::{AttnRow, AttnShape, first_seen};
use crate::kv::{self, KV_TOKENS};

/// Shapes: `q`, `out` (R, heads, head_dim).
pub(crate) fn attend(
    shape: &AttnShape<'_>,
    rows: &[AttnRow],
    q: &[f32],
    seqs: &[&[&[u8]]],
    out: &mut [f32],
) {
    let dim = shape.kv.head_dim();
    let vectors = q.chunks_exact(dim).zip(out.chunks_exact_mut(dim));
    for (index, (q, out)) in vectors.enumerate() {
        let (row, head) = (&rows[index / shape.heads], index % shape.heads);
        attend_one(shape, row, head, q, seqs[row.seq], out);
    }
}

fn attend_one(
    shape: &AttnShape<'_>,
    row: &AttnRow,
    head: usize,
    q: &[f32],
    slices: &[&[u8]],
    out: &mut [f32],
) {
    let kv = &shape.kv;
    let kv_head = head / (shape.heads / kv.kv_heads());
    let stored = |which: usize, token: usize| {
        let mut decoded = vec![0.0; kv.head_dim()];
        let bytes = kv.head(slices[token / KV_TOKENS], which, kv_head);
        let at = token % KV_TOKENS * kv.row_bytes();
        kv::decode(kv.ty(), &bytes[at..][..kv.row_bytes()], &mut decoded);
        decoded
    };
    let tokens = first_seen(shape, row)..row.position + 1;
    let score = |token| {
        let k = stored(0, token);
        q.iter().zip(&k).fold(0.0, |sum, (q, k)| sum + q * k) * shape.scale
    };
    let scores: Vec<f32> = tokens.clone().map(score).collect();
    let sink = shape.sinks.map(|sinks| sinks[head]);
    let max = scores
        .iter()
        .copied()
        .chain(sink)
        .fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|score| (score - max).exp()).collect();
    let sum = weights.iter().sum::<f32>() + sink.map_or(0.0, |sink| (sink - max).exp());
    out.fill(0.0);
    for (token, weight) in tokens.zip(weights) {
        for (out, v) in out.iter_mut().zip(stored(1, token)) {
            *out += weight / sum * v;
        }
    }
}
