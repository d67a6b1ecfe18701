//! Products that wait for others with the same rows: the workers meet once for all of them.
//!
//! Blocks are small beside what memory carries: a meeting costs some four microseconds, in which it
//! would bring 200 kB. Products of row blocks that follow each other, and of tensors with the same
//! input, go to the workers as one operation. Which ones run together never shows in their results.

use super::{CpuBackend, View};
use crate::backend::Op;
use crate::backend::work::{Buf, Buffer};
use larder_cpu::{Kernels, Matrix, Mode, Out, Product, Rows};

/// Row blocks of one tensor, and where their columns begin.
struct Columns<'a> {
    to: Buf,
    col0: usize,
    mode: Mode,
    blocks: Vec<Matrix<'a>>,
}

/// Whether `op` can run with the products in `waiting`: the same rows in, and for every output
/// columns that follow those before.
pub(super) fn joins(waiting: &[Op], op: &Op) -> bool {
    match (waiting.first(), op) {
        (
            Some(Op::MatMul { from, count, .. }),
            Op::MatMul {
                from: also_from,
                count: also_count,
                to,
                col0,
                mode,
                ..
            },
        ) => {
            let before = waiting.iter().rev().find_map(|op| match op {
                Op::MatMul {
                    weight,
                    to: other,
                    col0,
                    mode,
                    ..
                } if other == to => Some((col0 + weight.rows, *mode)),
                _ => None,
            });
            let follows = before.is_none_or(|before| before == (*col0, *mode));
            from == also_from && count == also_count && follows
        }
        (
            Some(Op::GateUp { count, .. }),
            Op::GateUp {
                count: also, col0, ..
            },
        ) => {
            let end = waiting.last().map(|op| match op {
                Op::GateUp { gate, col0, .. } => col0 + gate.rows,
                _ => 0,
            });
            count == also && end == Some(*col0)
        }
        _ => false,
    }
}

impl CpuBackend {
    /// Runs the products that wait.
    pub(super) fn run_waiting(&mut self) {
        let ops = std::mem::take(&mut self.waiting);
        let view = self.view.clone();
        match ops.first() {
            Some(Op::MatMul { from, count, .. }) => {
                self.multiply(columns(&view, &ops), *from, *count);
            }
            Some(Op::GateUp { count, .. }) => self.gate(&view, &ops, *count),
            _ => {}
        }
    }

    fn multiply(&mut self, columns: Vec<Columns<'_>>, from: Buf, count: usize) {
        let mut targets: Vec<(Buf, Buffer)> = Vec::with_capacity(columns.len());
        for one in &columns {
            targets.push((one.to, self.work().lift(one.to)));
        }
        let class = self.step.class;
        let work = self.work.as_ref().expect("it was there just now");
        let products = columns.into_iter().zip(&mut targets);
        let products = products.map(|(columns, (to, buffer))| Product {
            blocks: columns.blocks,
            out: Out {
                data: buffer.f32_mut(),
                stride: work.shape.cols(*to),
                col0: columns.col0,
                mode: columns.mode,
            },
        });
        let mut products: Vec<Product<'_>> = products.collect();
        let rows = self.rows(from, count);
        self.kernels.matmuls(class, &rows, &mut products);
        drop(products);
        for (buf, buffer) in targets {
            self.work().put_back(buf, buffer);
        }
    }

    fn gate(&mut self, view: &View, ops: &[Op], count: usize) {
        let mut first = 0;
        let blocks = ops.iter().rev().filter_map(|op| match op {
            Op::GateUp { gate, up, col0, .. } => {
                first = *col0;
                Some([view.matrix(gate), view.matrix(up)])
            }
            _ => None,
        });
        let mut blocks: Vec<[Matrix<'_>; 2]> = blocks.collect();
        blocks.reverse();
        let blocks: Vec<[&Matrix<'_>; 2]> = blocks.iter().map(|[gate, up]| [gate, up]).collect();
        let class = self.step.class;
        let mut hidden = self.work().lift(Buf::H);
        let mut out = Out {
            data: hidden.f32_mut(),
            stride: self.work().shape.cols(Buf::H),
            col0: first,
            mode: Mode::Store,
        };
        let rows = self.rows(Buf::Xn, count);
        self.kernels.gate_ups(class, &blocks, &rows, &mut out);
        self.work().put_back(Buf::H, hidden);
    }

    /// The first `count` rows of a buffer, and their quantised copy.
    fn rows(&self, from: Buf, count: usize) -> Rows<'_> {
        let work = self.work.as_ref();
        let work = work.expect("work buffers are set before a step begins");
        let cols = work.shape.cols(from);
        let bytes = count * Kernels::quantised_bytes(cols);
        let quantised = work.quantised.as_ref();
        Rows {
            f32: &work.read(from)[..count * cols],
            q8: quantised.map(|quantised| &quantised.bytes()[..bytes]),
            rows: count,
            cols,
        }
    }
}

/// Products by output.
fn columns<'a>(view: &'a View, ops: &'a [Op]) -> Vec<Columns<'a>> {
    let mut all: Vec<Columns<'a>> = Vec::new();
    for op in ops {
        let Op::MatMul {
            weight,
            to,
            col0,
            mode,
            ..
        } = op
        else {
            continue;
        };
        let matrix = view.matrix(weight);
        match all.iter_mut().find(|columns| columns.to == *to) {
            Some(columns) => columns.blocks.push(matrix),
            None => all.push(Columns {
                to: *to,
                col0: *col0,
                mode: *mode,
                blocks: vec![matrix],
            }),
        }
    }
    all
}
