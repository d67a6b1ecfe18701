//! The graph: one pass of a decoder over its blocks, written once over [`Backend`].
//!
//! Blocks are leased in step order and their parts used in the order they have in the block, so
//! the cutting of a layer into blocks never shows here: a block holds some rows of some tensors,
//! and each product writes the columns of its rows.

mod attention;
mod experts;

use crate::backend::work::Buf;
use crate::backend::{Backend, Op, RowRange, Token, Weight};
use crate::gather::Gatherer;
use crate::heat::Heat;
use crate::kv::{KvError, Sequence, SliceAt};
use crate::layout::Needs;
use crate::manifest::{Manifest, Part, Role};
use crate::stager::Stager;
use larder_cpu::{Class, Mode};
use larder_pool::sys::lease::ReadLease;
use larder_pool::units::BlockId;
use std::collections::VecDeque;
use std::ops::Range;

/// Rows whose logits a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: the head is not read.
    None,
    Last,
    All,
}

/// One step: consecutive tokens of one sequence, at the end of its KV.
#[derive(Clone, Copy, Debug)]
pub struct StepInput<'a> {
    pub class: Class,
    /// At most the rows of the backend's work buffers.
    pub tokens: &'a [u32],
    pub logits: LogitRows,
}

/// Everything a step works with.
pub struct Machine<'a> {
    pub manifest: &'a Manifest,
    pub backend: &'a mut dyn Backend,
    pub stager: &'a mut Stager,
    pub gatherer: &'a mut Gatherer,
    pub sequence: &'a mut Sequence,
    pub heat: &'a Heat,
    /// What operations that may not have completed hold, oldest first.
    pub pending: VecDeque<(Token, Held)>,
    /// Attentions that have not given the tails of their layer back.
    pub attending: Vec<(usize, Token)>,
}

/// What an operation under way holds: it may leave when that has completed.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    Weights(BlockId),
    /// A slice that streams.
    Slice(SliceAt),
}

/// Progress through the parts of one layer.
struct Layer {
    index: usize,
    count: usize,
    q_mode: Mode,
    k_mode: Mode,
    v_mode: Mode,
    is_attended: bool,
    is_hidden_ready: bool,
}

impl Machine<'_> {
    /// Runs one step; its KV slices have been reserved. Logits stand in [`Buf::Logits`], those of
    /// the first row asked for in row 0.
    pub fn step(&mut self, input: StepInput<'_>) -> Result<(), KvError> {
        let outcome = self.run(input);
        if outcome.is_err() {
            self.abandon();
        }
        outcome
    }

    /// Ends what is under way, whose results nobody wants.
    fn abandon(&mut self) {
        self.backend.flush();
        for (token, _) in std::mem::take(&mut self.pending) {
            let _ = self.backend.finish(token);
        }
        for (layer, token) in std::mem::take(&mut self.attending) {
            let completed = self.backend.finish(token);
            self.sequence.take_back(layer, completed.tails);
        }
        self.stager.abandon();
    }

    fn run(&mut self, input: StepInput<'_>) -> Result<(), KvError> {
        let count = input.tokens.len();
        assert!(
            count > 0 && count <= self.backend.rows_max(),
            "{count} rows in a step"
        );
        let first = self.sequence.len() as u32;
        let positions = (first..first + count as u32).collect();
        let _ = self.backend.enqueue(Op::Begin {
            class: input.class,
            positions,
        });
        self.embed(input.tokens)?;
        for index in 0..self.manifest.program.layers.len() {
            self.layer(index, input.class, count)?;
        }
        let rows = match input.logits {
            LogitRows::None => None,
            LogitRows::Last => Some(RowRange {
                first: count - 1,
                count: 1,
            }),
            LogitRows::All => Some(RowRange { first: 0, count }),
        };
        if let Some(rows) = rows {
            self.head(rows)?;
        }
        while self.finish_oldest()? {}
        for (layer, token) in std::mem::take(&mut self.attending) {
            let completed = self.backend.finish(token);
            self.sequence.take_back(layer, completed.tails);
        }
        self.sequence.advance(count);
        Ok(self.stager.end_pass()?)
    }

    fn embed(&mut self, tokens: &[u32]) -> Result<(), KvError> {
        let batch = Needs::gather_rows(self.backend.rows_max());
        for (index, tokens) in tokens.chunks(batch).enumerate() {
            let token = self.backend.enqueue(Op::Embed {
                rows: self.gatherer.fetch(tokens)?,
                ty: self.gatherer.weight_type(),
                first: index * batch,
            });
            let _ = self.backend.finish(token);
            self.gatherer.done();
        }
        Ok(())
    }

    fn layer(&mut self, index: usize, class: Class, count: usize) -> Result<(), KvError> {
        let blocks = self.manifest.program.layers[index].clone();
        let mut layer = Layer {
            index,
            count,
            q_mode: Mode::Store,
            k_mode: Mode::Store,
            v_mode: Mode::Store,
            is_attended: false,
            is_hidden_ready: false,
        };
        self.blocks(blocks.attention, |machine, lease, part, at| {
            machine
                .attention_part(&mut layer, lease, part, at)
                .map(Some)
        })?;
        if self.manifest.program.experts > 0 {
            return self.experts(index, class, count);
        }
        self.gate_up(blocks.gate_up, count)?;
        self.blocks(blocks.down, |machine, lease, part, at| {
            if !std::mem::replace(&mut layer.is_hidden_ready, true) {
                let _ = machine.backend.enqueue(Op::Quantise {
                    from: Buf::H,
                    count,
                });
            }
            Ok(Some(machine.product(
                lease,
                part,
                at,
                (Buf::H, Buf::X, Mode::Add),
                count,
            )))
        })
    }

    /// Leases each block and runs `part` on each of its parts, in order.
    fn blocks(
        &mut self,
        blocks: Range<u32>,
        mut part: impl FnMut(&mut Self, &ReadLease, Part, usize) -> Result<Option<Token>, KvError>,
    ) -> Result<(), KvError> {
        for block in blocks.map(BlockId::new) {
            // What is enqueued must not wait for the link, nor a streamed block for operations.
            let rests = self.stager.rests(block);
            if !rests {
                self.backend.flush();
            }
            let lease = self.stager.lease(block)?;
            let parts = self.manifest.blocks[block.index()].parts.clone();
            let mut last = None;
            for (at, one) in parts.into_iter().enumerate() {
                last = part(self, &lease, one, at)?.or(last);
            }
            drop(lease);
            let token = last.expect("a block has an operation");
            if !rests {
                self.backend.flush();
            }
            self.retire(token, Held::Weights(block))?;
        }
        Ok(())
    }

    /// A block has been handed over up to the operation of `token`: it leaves when that has
    /// completed. Those that have leave now; waits for the oldest when more are under way than the
    /// backend may run ahead.
    fn retire(&mut self, token: Token, held: Held) -> Result<(), KvError> {
        self.pending.push_back((token, held));
        let ahead = self.backend.blocks_ahead().min(self.stager.blocks_ahead());
        while self.pending.len() > ahead || self.is_oldest_complete() {
            self.finish_oldest()?;
        }
        Ok(())
    }

    fn is_oldest_complete(&self) -> bool {
        let oldest = self.pending.front();
        oldest.is_some_and(|(token, _)| self.backend.is_complete(token))
    }

    /// Waits for the oldest operation under way; `false` if there is none.
    fn finish_oldest(&mut self) -> Result<bool, KvError> {
        let Some((token, held)) = self.pending.pop_front() else {
            return Ok(false);
        };
        let _ = self.backend.finish(token);
        match held {
            Held::Weights(block) => {
                self.heat.touch(block);
                self.stager.done(block)?;
            }
            Held::Slice(at) => self.sequence.stream_done(at)?,
        }
        Ok(true)
    }

    fn weight(&self, lease: &ReadLease, part: Part, at: usize) -> Weight {
        let tensor = &self.manifest.tensors[part.tensor];
        Weight {
            lease: lease.clone(),
            part: at,
            ty: tensor.ty,
            rows: part.rows,
            cols: tensor.cols,
        }
    }

    fn product(
        &mut self,
        lease: &ReadLease,
        part: Part,
        at: usize,
        (from, to, mode): (Buf, Buf, Mode),
        count: usize,
    ) -> Token {
        let weight = self.weight(lease, part, at);
        self.backend.enqueue(Op::MatMul {
            weight,
            from,
            to,
            col0: part.row0,
            mode,
            count,
        })
    }

    fn attention_part(
        &mut self,
        layer: &mut Layer,
        lease: &ReadLease,
        part: Part,
        at: usize,
    ) -> Result<Token, KvError> {
        let count = layer.count;
        let rows = RowRange { first: 0, count };
        Ok(match self.manifest.tensors[part.tensor].role {
            Role::AttnNorm | Role::FfnNorm => {
                let weight = self.weight(lease, part, at);
                self.backend.enqueue(Op::Norm { weight, rows })
            }
            Role::QNorm => self.head_norm(lease, part, at, Buf::Q),
            Role::KNorm => self.head_norm(lease, part, at, Buf::K),
            Role::QBias => {
                layer.q_mode = Mode::Add;
                self.bias(lease, part, at, Buf::Q, count)
            }
            Role::KBias => {
                layer.k_mode = Mode::Add;
                self.bias(lease, part, at, Buf::K, count)
            }
            Role::VBias => {
                layer.v_mode = Mode::Add;
                self.bias(lease, part, at, Buf::V, count)
            }
            Role::Q => self.product(lease, part, at, (Buf::Xn, Buf::Q, layer.q_mode), count),
            Role::K => self.product(lease, part, at, (Buf::Xn, Buf::K, layer.k_mode), count),
            Role::V => self.product(lease, part, at, (Buf::Xn, Buf::V, layer.v_mode), count),
            Role::O => {
                if !std::mem::replace(&mut layer.is_attended, true) {
                    self.attend(layer.index, count)?;
                }
                self.product(lease, part, at, (Buf::Att, Buf::X, Mode::Add), count)
            }
            Role::Router => {
                self.product(lease, part, at, (Buf::Xn, Buf::Router, Mode::Store), count)
            }
            role => unreachable!("the manifest puts no {role:?} into an attention block"),
        })
    }

    fn head_norm(&mut self, lease: &ReadLease, part: Part, at: usize, of: Buf) -> Token {
        let weight = self.weight(lease, part, at);
        self.backend.enqueue(Op::HeadNorm { weight, of })
    }

    fn bias(&mut self, lease: &ReadLease, part: Part, at: usize, to: Buf, count: usize) -> Token {
        let weight = self.weight(lease, part, at);
        self.backend.enqueue(Op::Bias { weight, to, count })
    }

    /// Blocks of gate|up hold equal rows of both: gate first.
    fn gate_up(&mut self, blocks: Range<u32>, count: usize) -> Result<(), KvError> {
        let mut gate: Option<Weight> = None;
        self.blocks(blocks, |machine, lease, part, at| {
            let weight = machine.weight(lease, part, at);
            let Some(first) = gate.take() else {
                gate = Some(weight);
                return Ok(None);
            };
            let col0 = part.row0;
            Ok(Some(machine.backend.enqueue(Op::GateUp {
                gate: first,
                up: weight,
                col0,
                count,
            })))
        })
    }

    fn head(&mut self, rows: RowRange) -> Result<(), KvError> {
        let blocks = self.manifest.program.head.clone();
        let count = rows.count;
        self.blocks(blocks, |machine, lease, part, at| {
            let is_norm = machine.manifest.tensors[part.tensor].role == Role::OutputNorm;
            Ok(Some(if is_norm {
                let weight = machine.weight(lease, part, at);
                machine.backend.enqueue(Op::Norm { weight, rows })
            } else {
                machine.product(lease, part, at, (Buf::Xn, Buf::Logits, Mode::Store), count)
            }))
        })
    }
}
