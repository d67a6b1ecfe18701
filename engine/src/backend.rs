//! The seam between the graph and what computes: operations take leases and handles, are enqueued
//! in order, and give back a token.
//!
//! A backend owns the work buffers of a step and runs operations as if one after the other. It
//! owns the leases of an operation until that operation has completed, so a block stays where it
//! is exactly as long as somebody reads it. Nothing here takes a slice: bytes that a kernel reads
//! are named by a lease or a buffer, wherever they are.

pub mod work;

pub mod cpu;

pub mod sim;

use crate::config::Experts;
use larder_cpu::{Class, KvShape, Mode, WeightType};
use larder_pool::sys::lease::{AppendLease, ReadLease};
use work::{Buf, WorkBuffers};

/// Rows of a weight tensor inside a leased block.
#[derive(Clone, Debug)]
pub struct Weight {
    pub lease: ReadLease,
    /// Index of the part in its block.
    pub part: usize,
    pub ty: WeightType,
    pub rows: usize,
    pub cols: usize,
}

/// One row of weights inside a leased block.
#[derive(Clone, Debug)]
pub struct StoredRow {
    pub lease: ReadLease,
    /// Index of the part in its block.
    pub part: usize,
    /// Row of the part.
    pub row: usize,
}

/// Full KV slices of one layer and one sequence, which follow each other.
#[derive(Debug, Default)]
pub struct SliceLeases {
    /// Index of the first one in the sequence.
    pub first: usize,
    pub full: Vec<ReadLease>,
}

/// Which rows of the step an operation works on.
#[derive(Clone, Copy, Debug)]
pub struct RowRange {
    pub first: usize,
    pub count: usize,
}

/// One operation. Buffers are those of [`Buf`]; rows are the tokens of the step.
#[derive(Debug)]
pub enum Op {
    /// Starts a step: the position of each row.
    Begin { class: Class, positions: Vec<u32> },
    /// `x[first..] = decode(rows)`.
    Embed {
        rows: Vec<StoredRow>,
        ty: WeightType,
        first: usize,
    },
    /// `xn = rms_norm(x[rows]) * weight`, rows moved to the front, and their quantised copy.
    Norm { weight: Weight, rows: RowRange },
    /// The quantised copy of the first `count` rows of a buffer, for the products that follow.
    Quantise { from: Buf, count: usize },
    /// The next attention norms every head of q or k with this vector before it rotates them.
    HeadNorm { weight: Weight, of: Buf },
    /// Every row of `to` becomes the vector.
    Bias {
        weight: Weight,
        to: Buf,
        count: usize,
    },
    /// `to[.., col0 ..] (=, +=) from * weight^T`.
    MatMul {
        weight: Weight,
        from: Buf,
        to: Buf,
        col0: usize,
        mode: Mode,
        count: usize,
    },
    /// `h[.., col0 ..] = silu(xn * gate^T) * (xn * up^T)`.
    GateUp {
        gate: Weight,
        up: Weight,
        col0: usize,
        count: usize,
    },
    /// Every row picks its experts by the scores in [`Buf::Router`]; gives back the picks.
    Route { count: usize },
    /// The picks that the next layer would make of the residual stream as it is now: that layer's
    /// norm and router. A guess, computed beside what the layer under way works with.
    Foresee {
        norm: Weight,
        router: Weight,
        count: usize,
    },
    /// One expert for the rows that picked it: `picked[row, rank] = expert(xn[row])`.
    Expert {
        gate: Weight,
        up: Weight,
        down: Weight,
        picks: Vec<Pick>,
    },
    /// `x[row] += sum over ranks, in order, of weight * picked[row, rank]`.
    Combine { count: usize },
    /// Norms (where asked for) and rotates q and k.
    Rotate,
    /// Attends to some full slices, behind those of the calls before: `att` is under way.
    AttendPart(SliceLeases),
    /// Appends k and v to the tails and attends to the last slices: `att = attention(q)`. The
    /// tails come back.
    Attend {
        slices: SliceLeases,
        tails: Vec<AppendLease>,
    },
}

/// A row that picked an expert, and at which rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    pub row: usize,
    pub rank: usize,
}

/// What an operation gives back when it has completed.
#[derive(Debug, Default)]
pub struct Completed {
    pub tails: Vec<AppendLease>,
    /// Experts by row and rank.
    pub picks: Vec<u32>,
}

impl Completed {
    /// Nothing came back.
    pub const fn is_empty(&self) -> bool {
        self.tails.is_empty() && self.picks.is_empty()
    }
}

/// Names an operation that was enqueued.
#[must_use = "an operation is complete only when its token says so"]
#[derive(Debug, PartialEq, Eq)]
pub struct Token(pub(crate) u64);

/// What every step of a model has in common.
#[derive(Clone, Debug)]
pub struct StepShape {
    pub dim: usize,
    pub heads: usize,
    pub ffn: usize,
    pub experts: Option<Experts>,
    pub vocab: usize,
    pub norm_eps: f32,
    pub kv: KvShape,
    /// Tokens behind which attention sees nothing, if the model has such a window.
    pub window: Option<usize>,
}

/// Computes steps; see the module.
pub trait Backend: Send {
    /// Name for the report.
    fn name(&self) -> String;

    /// Takes the work buffers of the coming steps and gives back those of the steps before.
    fn set_work(&mut self, work: WorkBuffers) -> Option<WorkBuffers>;

    /// Blocks whose operations may be under way at once.
    fn blocks_ahead(&self) -> usize;

    /// Rows that the work buffers hold.
    fn rows_max(&self) -> usize;

    /// Enqueues an operation behind all those before it.
    fn enqueue(&mut self, op: Op) -> Token;

    /// The operation has completed: nothing waits for it.
    fn is_complete(&self, token: &Token) -> bool;

    /// Starts what was enqueued, if it waits for more of its kind. Whoever waits for something
    /// else than an operation does this first.
    fn flush(&mut self);

    /// Waits until the operation has completed, and takes what it gives back.
    fn finish(&mut self, token: Token) -> Completed;

    /// Bytes per second at which this backend reads the blocks once, behind everything enqueued.
    fn read_probe(&mut self, blocks: &[ReadLease]) -> f64;

    /// Copies row `row` of a buffer out, behind everything enqueued.
    fn download(&mut self, buf: Buf, row: usize, out: &mut [f32]);
}
