//! Operands of attention, and the arithmetic of one block that each instruction set provides.

use crate::kv::{self, KvShape, KvType};
use std::ops::Range;

/// Shape of one layer's attention.
#[derive(Clone, Copy, Debug)]
pub struct AttnShape<'a> {
    /// Query heads; a multiple of the KV heads. Head h reads KV head h / (heads / kv_heads).
    pub heads: usize,
    pub kv: KvShape,
    /// Factor of the scores: 1/sqrt(head_dim).
    pub scale: f32,
    /// Tokens that a query sees, its own included; `None` for all.
    pub window: Option<usize>,
    /// One logit per query head that takes part in the softmax and has no value (attention
    /// sinks).
    pub sinks: Option<&'a [f32]>,
}

/// Sequence and position of one query row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttnRow {
    /// Index into `seqs`.
    pub seq: usize,
    /// Position of the token; its own K and V are stored already.
    pub position: usize,
}

/// Some of the slices of one sequence, which follow each other. The slices of a sequence may be
/// attended in any number of segments, front to back.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Index of the first slice in the sequence.
    pub first_slice: usize,
    pub slices: &'a [&'a [u8]],
    /// The sums start here.
    pub is_first: bool,
    /// The sums are complete: the output is normalised.
    pub is_last: bool,
}

/// First token that a row sees.
pub(crate) fn first_seen(shape: &AttnShape<'_>, row: &AttnRow) -> usize {
    shape
        .window
        .map_or(0, |window| (row.position + 1).saturating_sub(window))
}

/// Softmax of one query so far.
#[derive(Clone, Copy)]
pub(crate) struct Softmax {
    pub(crate) max: f32,
    pub(crate) sum: f32,
}

/// The arithmetic of one 64-token block for `n` queries.
///
/// Shapes: `q`, `acc` (n, pad); `k`, `v` (64, pad), where pad is head_dim rounded up to 16 and
/// the padding is zero; `s` (n, 64); `seen` and `state` (n).
pub(crate) trait BlockMath {
    /// Converts stored tokens to float32 rows of `pad` elements.
    ///
    /// # Safety
    /// The CPU has the flags of the instruction set.
    unsafe fn decode(
        kv: &KvShape,
        bytes: &[u8],
        tokens: Range<usize>,
        pad: usize,
        out: &mut [f32],
    ) {
        decode_rows(kv, bytes, tokens, pad, out, kv::decode);
    }

    /// Stored tokens will be decoded soon.
    fn prefetch(_bytes: &[u8]) {}

    /// Sets `s[i][t]` to the dot product of query i and token t for every t in `seen[i]`.
    ///
    /// # Safety
    /// As `decode`.
    unsafe fn scores(q: &[f32], k: &[f32], pad: usize, seen: &[Range<usize>], s: &mut [f32]);

    /// Turns the scores in `seen` into weights, updates the state and returns the factor that
    /// the sums so far are multiplied with.
    ///
    /// # Safety
    /// As `decode`.
    unsafe fn soften(s: &mut [f32], seen: &Range<usize>, scale: f32, state: &mut Softmax) -> f32;

    /// Multiplies `acc[i]` by `factors[i]` and adds the weighted values of `seen[i]` in order.
    ///
    /// # Safety
    /// As `decode`.
    unsafe fn weigh(
        s: &[f32],
        v: &[f32],
        pad: usize,
        seen: &[Range<usize>],
        factors: &[f32],
        acc: &mut [f32],
    );
}

/// Converts the tokens of a block: all at once where none has padding.
pub(crate) fn decode_rows(
    kv: &KvShape,
    bytes: &[u8],
    tokens: Range<usize>,
    pad: usize,
    out: &mut [f32],
    decode: impl Fn(KvType, &[u8], &mut [f32]),
) {
    let row_bytes = kv.row_bytes();
    if pad == kv.head_dim() {
        let out = &mut out[tokens.start * pad..tokens.end * pad];
        decode(kv.ty(), kv.tokens(bytes, &tokens), out);
        return;
    }
    for token in tokens {
        let (row, padding) = out[token * pad..][..pad].split_at_mut(kv.head_dim());
        decode(kv.ty(), &bytes[token * row_bytes..][..row_bytes], row);
        padding.fill(0.0);
    }
}
