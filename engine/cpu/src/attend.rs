//! Attention over KV slices.
//!
//! A query at position p attends tokens 0..=p, or the last `window` of them, in fixed blocks of
//! 64 tokens from position 0 with an online softmax. Rows of one sequence that follow each other
//! form a tile, so that a block is decoded once for all of them; a row's result does not depend
//! on its tile.
//!
//! Source: Milakov and Gimelshein, Online normalizer calculation for softmax, 2018.

use crate::attention::{AttnRow, AttnShape, Block, BlockMath, Segment, Softmax, first_seen};
#[cfg(target_arch = "x86_64")]
use crate::avx512;
use crate::isa::Isa;
use crate::kernels::{Class, Kernels};
use crate::kv::KV_TOKENS;
use crate::scratch::{Scratch, SharedSlice};
use crate::{portable, reference};
use std::ops::Range;

/// Query vectors of a tile at most: rows × heads of one KV head.
const TILE_QUERIES: usize = 32;

/// Rows `first..first + count` of one sequence.
#[derive(Clone, Copy)]
struct RowTile {
    first: usize,
    count: usize,
}

/// Operands of one call, shared by its tasks.
struct Call<'a> {
    shape: &'a AttnShape<'a>,
    rows: &'a [AttnRow],
    q: &'a [f32],
    seqs: &'a [&'a [&'a [u8]]],
    /// Slice of its sequence with which every element of `seqs` starts.
    first_slice: usize,
    is_first: bool,
    is_last: bool,
    /// What is stored is prefetched.
    prefetches: bool,
    /// Threads that take heads in turn.
    threads: usize,
    /// Maximum and sum of every query between segments: (R, heads, 2).
    soft: SharedSlice<f32>,
    out: SharedSlice<f32>,
}

impl Kernels {
    /// Attends query rows to the stored K and V of their sequences.
    ///
    /// Shapes: `q`, `out` (R, heads, head_dim); `seqs[s]` the slices of sequence s in order,
    /// each [`KvShape::slice_bytes`]; slices wholly behind the window may be empty.
    /// Accuracy: within 2e-6 × (largest |v|) of the reference per 64 tokens; reads K and V only
    /// as stored.
    pub fn attention(
        &self,
        class: Class,
        shape: &AttnShape<'_>,
        rows: &[AttnRow],
        q: &[f32],
        seqs: &[&[&[u8]]],
        out: &mut [f32],
    ) {
        if class == Class::Step {
            assert!(
                rows.len() <= Class::STEP_ROWS_MAX,
                "{} rows in one step",
                rows.len()
            );
        }
        check(shape, rows, q, seqs, out);
        self.attend(&Call {
            shape,
            rows,
            q,
            seqs,
            first_slice: 0,
            is_first: true,
            is_last: true,
            prefetches: self.prefetches,
            threads: self.pool.threads(),
            soft: SharedSlice::new(&mut []),
            out: SharedSlice::new(out),
        });
    }

    /// Attends query rows of one sequence (number 0) to some of its slices, behind those that
    /// earlier calls attended to; the bits are those of one call over all slices.
    ///
    /// Shapes: `q`, `out` (R, heads, head_dim); `soft` (R, heads, 2). Between the calls `out` and
    /// `soft` carry the sums.
    pub fn attention_segment(
        &self,
        shape: &AttnShape<'_>,
        rows: &[AttnRow],
        q: &[f32],
        segment: &Segment<'_>,
        soft: &mut [f32],
        out: &mut [f32],
    ) {
        let elems = rows.len() * shape.heads * shape.kv.head_dim();
        assert_eq!((q.len(), out.len()), (elems, elems), "elements");
        assert_eq!(soft.len(), rows.len() * shape.heads * 2, "running softmax");
        self.attend(&Call {
            shape,
            rows,
            q,
            seqs: &[segment.slices],
            first_slice: segment.first_slice,
            is_first: segment.is_first,
            is_last: segment.is_last,
            prefetches: self.prefetches,
            threads: self.pool.threads(),
            soft: SharedSlice::new(soft),
            out: SharedSlice::new(out),
        });
    }

    fn attend(&self, call: &Call<'_>) {
        let kv_heads = call.shape.kv.kv_heads();
        let most = (TILE_QUERIES * kv_heads / call.shape.heads).max(1);
        let tiles = row_tiles(call.rows, most);
        // the longest prefixes are the last rows: they start first
        self.pool.run(tiles.len() * kv_heads, |task, worker| {
            let tile = tiles[tiles.len() - 1 - task / kv_heads];
            let mut scratch = self.scratch(worker);
            let head = task % kv_heads;
            match self.isa {
                Isa::Reference => {
                    call.attend::<reference::attention::Math>(tile, head, &mut scratch);
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => {
                    call.attend::<avx512::attention::Math>(tile, head, &mut scratch);
                }
                _ => call.attend::<portable::attention::Math>(tile, head, &mut scratch),
            }
        });
    }
}

fn check(shape: &AttnShape<'_>, rows: &[AttnRow], q: &[f32], seqs: &[&[&[u8]]], out: &[f32]) {
    let heads = shape.heads;
    assert!(
        heads > 0 && heads.is_multiple_of(shape.kv.kv_heads()),
        "query heads per kv head"
    );
    let elems = rows.len() * heads * shape.kv.head_dim();
    assert_eq!(q.len(), elems, "elements of the queries");
    assert_eq!(out.len(), elems, "elements of the output");
    assert!(shape.window != Some(0), "a window of no tokens");
    if let Some(sinks) = shape.sinks {
        assert_eq!(sinks.len(), heads, "attention sinks");
    }
    for row in rows {
        let slices = seqs[row.seq];
        let last = row.position / KV_TOKENS;
        assert!(
            last < slices.len(),
            "position {} has no kv slice",
            row.position
        );
        for slice in &slices[first_seen(shape, row) / KV_TOKENS..=last] {
            assert_eq!(slice.len(), shape.kv.slice_bytes(), "bytes of a kv slice");
        }
    }
}

/// Joins neighbouring rows of one sequence, at most `rows_max` to a tile.
fn row_tiles(rows: &[AttnRow], rows_max: usize) -> Vec<RowTile> {
    let mut tiles: Vec<RowTile> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        match tiles.last_mut() {
            Some(tile) if tile.count < rows_max && rows[tile.first].seq == row.seq => {
                tile.count += 1;
            }
            _ => tiles.push(RowTile {
                first: index,
                count: 1,
            }),
        }
    }
    tiles
}

/// The part of `tokens` that lies in block `block`, relative to its start.
fn in_block(tokens: &Range<usize>, block: usize) -> Range<usize> {
    let start = block * KV_TOKENS;
    let clamp = |token: usize| token.clamp(start, start + KV_TOKENS) - start;
    clamp(tokens.start)..clamp(tokens.end)
}

/// What is needed of a sequence: blocks of it, and of these some tokens.
struct Stored<'a> {
    slices: &'a [&'a [u8]],
    /// Block of the sequence with which `slices` starts.
    first_slice: usize,
    tokens: Range<usize>,
    blocks: Range<usize>,
}

impl<'a> Stored<'a> {
    /// The slice of a block, and which of its tokens are needed.
    fn at(&self, block: usize) -> (&'a [u8], Range<usize>) {
        let slice = self.slices[block - self.first_slice];
        (slice, in_block(&self.tokens, block))
    }
}

impl Call<'_> {
    /// Attends the queries of one tile that read KV head `kv_head`.
    fn attend<M: BlockMath>(&self, tile: RowTile, kv_head: usize, scratch: &mut Scratch) {
        let kv = &self.shape.kv;
        let dim = kv.head_dim();
        let pad = dim.next_multiple_of(16);
        let group = self.shape.heads / kv.kv_heads();
        let n = tile.count * group;
        let floats = scratch.floats((KV_TOKENS + 2 * n) * pad + n * KV_TOKENS);
        let (room, floats) = floats.split_at_mut(KV_TOKENS * pad);
        let (q, floats) = floats.split_at_mut(n * pad);
        let (acc, s) = floats.split_at_mut(n * pad);
        let rows = &self.rows[tile.first..][..tile.count];
        // query i of the tile: head i % group of row i / group
        let at = |i: usize| {
            ((tile.first + i / group) * self.shape.heads + kv_head * group + i % group) * dim
        };
        for (i, q) in q.chunks_exact_mut(pad).enumerate() {
            q[..dim].copy_from_slice(&self.q[at(i)..][..dim]);
            q[dim..].fill(0.0);
        }
        let mut state: Vec<Softmax> = (0..n)
            .map(|i| {
                self.load(
                    at(i),
                    kv_head * group + i % group,
                    &mut acc[i * pad..][..pad],
                )
            })
            .collect();
        let tokens: Vec<Range<usize>> = (0..n)
            .map(|i| first_seen(self.shape, &rows[i / group])..rows[i / group].position + 1)
            .collect();
        let mut seen = vec![0..0; n];
        let mut factors = vec![0.0; n];
        let stored = self.stored(rows[0].seq, &tokens);
        for block in stored.blocks.clone() {
            let (slice, needed) = stored.at(block);
            for (seen, tokens) in seen.iter_mut().zip(&tokens) {
                *seen = in_block(tokens, block);
            }
            // What the next block needs comes while this one is computed: behind the last that of
            // the head which this thread takes next, as a rule.
            let next = if block + 1 < stored.blocks.end {
                (block + 1, kv_head)
            } else {
                (stored.blocks.start, kv_head + self.threads)
            };
            let part = |which| Block {
                kv,
                bytes: kv.head(slice, which, kv_head),
                needed: needed.clone(),
                seen: &seen,
                ahead: self.ahead(&stored, next, which),
            };
            // SAFETY: `Kernels::new` checked the flags of the instruction set behind `M`.
            unsafe {
                M::scores(&part(0), q, room, s);
                for (i, s) in s.chunks_exact_mut(KV_TOKENS).take(n).enumerate() {
                    factors[i] = M::soften(s, &seen[i], self.shape.scale, &mut state[i]);
                }
                M::weigh(&part(1), s, &factors, room, acc);
            }
        }
        for (i, acc) in acc.chunks_exact(pad).enumerate() {
            self.save(at(i), &acc[..dim], state[i]);
        }
    }

    /// What queries that see `tokens` of sequence `seq` need of it.
    fn stored(&self, seq: usize, tokens: &[Range<usize>]) -> Stored<'_> {
        let first = tokens.iter().map(|tokens| tokens.start).min().unwrap_or(0);
        let end = tokens.iter().map(|tokens| tokens.end).max().unwrap_or(0);
        let slices = self.seqs[seq];
        let here = self.first_slice..self.first_slice + slices.len();
        Stored {
            slices,
            first_slice: self.first_slice,
            tokens: first..end,
            blocks: (first / KV_TOKENS).max(here.start)..end.div_ceil(KV_TOKENS).min(here.end),
        }
    }

    /// Keys (`which` 0) or values (`which` 1) of a block and a head, if they are to be prefetched.
    fn ahead<'a>(
        &self,
        stored: &Stored<'a>,
        (block, head): (usize, usize),
        which: usize,
    ) -> &'a [u8] {
        let kv = &self.shape.kv;
        if !self.prefetches || head >= kv.kv_heads() {
            return &[];
        }
        let (slice, tokens) = stored.at(block);
        kv.tokens(kv.head(slice, which, head), &tokens)
    }

    /// Gives the output of the query at element `at`, or its sums if more segments come.
    fn save(&self, at: usize, acc: &[f32], state: Softmax) {
        // SAFETY: each (row, KV head) belongs to one task.
        let out = unsafe { self.out.part(at, acc.len()) };
        if self.is_last {
            for (out, acc) in out.iter_mut().zip(acc) {
                *out = acc / state.sum;
            }
        } else {
            out.copy_from_slice(acc);
            // SAFETY: as above.
            let soft = unsafe { self.soft.part(at / acc.len() * 2, 2) };
            soft.copy_from_slice(&[state.max, state.sum]);
        }
    }

    /// State of the query at element `at`, which reads head `head`, and its sums.
    fn load(&self, at: usize, head: usize, acc: &mut [f32]) -> Softmax {
        if self.is_first {
            acc.fill(0.0);
            return self.start(head);
        }
        let dim = self.shape.kv.head_dim();
        // SAFETY: each (row, KV head) belongs to one task.
        let (out, soft) = unsafe { (self.out.part(at, dim), self.soft.part(at / dim * 2, 2)) };
        acc[..dim].copy_from_slice(out);
        acc[dim..].fill(0.0);
        Softmax {
            max: soft[0],
            sum: soft[1],
        }
    }

    /// Softmax before the first token.
    fn start(&self, head: usize) -> Softmax {
        match self.shape.sinks {
            Some(sinks) => Softmax {
                max: sinks[head],
                sum: 1.0,
            },
            None => Softmax {
                max: f32::NEG_INFINITY,
                sum: 0.0,
            },
        }
    }
}
