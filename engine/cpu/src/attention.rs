//! Operands of attention, and the arithmetic of one block that each instruction set provides.

use crate::kv::{KvShape, KvType};
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

/// Keys or values of one head in one 64-token block, and what some queries see of them.
pub(crate) struct Block<'a> {
    pub(crate) kv: &'a KvShape,
    /// All 64 tokens as they are stored.
    pub(crate) bytes: &'a [u8],
    /// Tokens that a query sees.
    pub(crate) needed: Range<usize>,
    /// Tokens that each query sees, n of them.
    pub(crate) seen: &'a [Range<usize>],
    /// Stored bytes that are needed next: they may be prefetched meanwhile.
    pub(crate) ahead: &'a [u8],
}

impl Block<'_> {
    /// Elements of a row in work memory: those of a head and zeros up to a multiple of 16.
    pub(crate) fn pad(&self) -> usize {
        self.kv.head_dim().next_multiple_of(16)
    }
}

/// The arithmetic of one 64-token block for `n` queries.
///
/// Shapes: `q`, `acc` (n, pad) and `room` (64, pad), where pad is head_dim rounded up to 16 and the
/// padding is zero; `s` (n, 64); `factors` and `state` (n).
pub(crate) trait BlockMath {
    /// Sets `s[i][t]` to the dot product of query i and key t for every t that it sees. `room` is
    /// work memory.
    ///
    /// # Safety
    /// The CPU has the flags of the instruction set.
    unsafe fn scores(block: &Block<'_>, q: &[f32], room: &mut [f32], s: &mut [f32]);

    /// Turns the scores in `seen` into weights, updates the state and returns the factor that
    /// the sums so far are multiplied with.
    ///
    /// # Safety
    /// As `scores`.
    unsafe fn soften(s: &mut [f32], seen: &Range<usize>, scale: f32, state: &mut Softmax) -> f32;

    /// Multiplies `acc[i]` by `factors[i]` and adds the weighted values that it sees in order.
    /// `room` is work memory.
    ///
    /// # Safety
    /// As `scores`.
    unsafe fn weigh(
        block: &Block<'_>,
        s: &[f32],
        factors: &[f32],
        room: &mut [f32],
        acc: &mut [f32],
    );
}

/// Converts the tokens of a block that are needed: all at once where none has padding.
pub(crate) fn decode_rows(
    block: &Block<'_>,
    out: &mut [f32],
    decode: impl Fn(KvType, &[u8], &mut [f32]),
) {
    let (kv, pad) = (block.kv, block.pad());
    let row_bytes = kv.row_bytes();
    if pad == kv.head_dim() {
        let out = &mut out[block.needed.start * pad..block.needed.end * pad];
        decode(kv.ty(), kv.tokens(block.bytes, &block.needed), out);
        return;
    }
    for token in block.needed.clone() {
        let (row, padding) = out[token * pad..][..pad].split_at_mut(kv.head_dim());
        decode(kv.ty(), &block.bytes[token * row_bytes..][..row_bytes], row);
        padding.fill(0.0);
    }
}
