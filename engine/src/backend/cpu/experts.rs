//! Routing and experts on the CPU.
//!
//! Softmax over all scores, then the best by weight (the lower expert first among equals), then,
//! where the model says so, weights that sum to one. Source: Qwen3 technical report, 2025.

use super::CpuBackend;
use crate::backend::work::{Buf, WorkBuffers};
use crate::backend::{Completed, Pick, Weight};
use crate::config::Experts;
use larder_cpu::{Class, Kernels, Matrix, Mode, Out, Rows};

/// Weights of the picks of the step under way, by row and rank.
#[derive(Debug, Default)]
pub(super) struct Routing {
    weights: Vec<f32>,
}

impl CpuBackend {
    fn experts(&self) -> Experts {
        self.shape.experts.expect("a model with experts")
    }

    pub(super) fn route(&mut self, count: usize) -> Completed {
        let experts = self.experts();
        let scores = &self.work().read(Buf::Router)[..count * experts.count];
        let (picks, weights) = pick_rows(scores, experts);
        self.routing = Routing { weights };
        Completed {
            tails: Vec::new(),
            picks,
        }
    }

    pub(super) fn foresee(&mut self, norm: &Weight, router: &Weight, count: usize) -> Completed {
        let (experts, class) = (self.experts(), self.step.class);
        let (dim, eps) = (self.shape.dim, self.shape.norm_eps);
        let vector = self.view.vector(norm);
        let Self {
            kernels,
            work,
            view,
            ..
        } = self;
        let work = work
            .as_mut()
            .expect("work buffers are set before a step begins");
        // Nobody has written what the experts give yet.
        let mut normed = work.lift(Buf::Picked);
        let rows = &mut normed.f32_mut()[..count * dim];
        kernels.rms_norm(&work.read(Buf::X)[..count * dim], &vector, eps, count, rows);
        if router.ty.block_elems() > 1 {
            quantise(kernels, work, rows, dim);
        }
        let mut scores = vec![0.0; count * experts.count];
        let mut out = Out {
            data: &mut scores,
            stride: experts.count,
            col0: 0,
            mode: Mode::Store,
        };
        product(
            kernels,
            class,
            &view.matrix(router),
            (rows, dim),
            count,
            work,
            &mut out,
        );
        work.put_back(Buf::Picked, normed);
        let (picks, _) = pick_rows(&scores, experts);
        Completed {
            tails: Vec::new(),
            picks,
        }
    }

    pub(super) fn expert(&mut self, [gate, up, down]: [&Weight; 3], picks: &[Pick]) {
        let (dim, ffn, picked) = (self.shape.dim, self.shape.ffn, self.experts().picked);
        let (class, count) = (self.step.class, picks.len());
        let Self {
            kernels,
            work,
            view,
            ..
        } = self;
        let work = work
            .as_mut()
            .expect("work buffers are set before a step begins");
        let mut group = work.lift(Buf::Group);
        let mut hidden = work.lift(Buf::H);
        let rows = &mut group.f32_mut()[..count * dim];
        for (row, pick) in rows.chunks_exact_mut(dim).zip(picks) {
            row.copy_from_slice(&work.read(Buf::Xn)[pick.row * dim..][..dim]);
        }
        quantise(kernels, work, rows, dim);
        let (gate, up) = (view.matrix(gate), view.matrix(up));
        let mut out = Out {
            data: hidden.f32_mut(),
            stride: ffn,
            col0: 0,
            mode: Mode::Store,
        };
        let operand = operand(work, (rows, dim), count);
        kernels.gate_up(class, &gate, &up, &operand, &mut out);
        let hidden_rows = &hidden.f32()[..count * ffn];
        quantise(kernels, work, hidden_rows, ffn);
        let mut out = Out {
            data: rows,
            stride: dim,
            col0: 0,
            mode: Mode::Store,
        };
        product(
            kernels,
            class,
            &view.matrix(down),
            (hidden_rows, ffn),
            count,
            work,
            &mut out,
        );
        let results = work.write(Buf::Picked);
        for (row, pick) in rows.chunks_exact(dim).zip(picks) {
            let place = (pick.row * picked + pick.rank) * dim;
            results[place..][..dim].copy_from_slice(row);
        }
        work.put_back(Buf::H, hidden);
        work.put_back(Buf::Group, group);
    }

    pub(super) fn combine(&mut self, count: usize) {
        let (dim, picked) = (self.shape.dim, self.experts().picked);
        let Self {
            kernels,
            work,
            routing,
            ..
        } = self;
        let work = work
            .as_mut()
            .expect("work buffers are set before a step begins");
        let mut x = work.lift(Buf::X);
        let results = work.read(Buf::Picked);
        for (row, x) in x.f32_mut().chunks_exact_mut(dim).take(count).enumerate() {
            for rank in 0..picked {
                let place = row * picked + rank;
                let result = &results[place * dim..][..dim];
                kernels.add_scaled(x, result, routing.weights[place]);
            }
        }
        work.put_back(Buf::X, x);
    }
}

/// Quantises rows into the step's buffer, where the kernels want that.
fn quantise(kernels: &Kernels, work: &mut WorkBuffers, rows: &[f32], cols: usize) {
    if let Some(quantised) = work.quantised.as_mut()
        && cols.is_multiple_of(larder_cpu::WeightType::Q8_0.block_elems())
    {
        let bytes = rows.len() / cols * Kernels::quantised_bytes(cols);
        kernels.quantise(rows, cols, &mut quantised.bytes_mut()[..bytes]);
    }
}

fn operand<'a>(work: &'a WorkBuffers, (f32, cols): (&'a [f32], usize), rows: usize) -> Rows<'a> {
    let bytes = rows * Kernels::quantised_bytes(cols);
    Rows {
        f32,
        q8: work
            .quantised
            .as_ref()
            .map(|quantised| &quantised.bytes()[..bytes]),
        rows,
        cols,
    }
}

/// A product of rows that stand outside the step's buffers; quantised if the weight asks for it.
fn product(
    kernels: &Kernels,
    class: Class,
    weight: &Matrix<'_>,
    rows: (&[f32], usize),
    count: usize,
    work: &WorkBuffers,
    out: &mut Out<'_>,
) {
    let operand = operand(work, rows, count);
    kernels.matmul(class, weight, &operand, None, out);
}

/// Experts and weights of every row of scores, by rank.
fn pick_rows(scores: &[f32], experts: Experts) -> (Vec<u32>, Vec<f32>) {
    let rows = scores.len() / experts.count;
    let mut picks = Vec::with_capacity(rows * experts.picked);
    let mut weights = Vec::with_capacity(rows * experts.picked);
    for scores in scores.chunks_exact(experts.count) {
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exps: Vec<f32> = scores.iter().map(|score| (score - max).exp()).collect();
        let sum: f32 = exps.iter().sum();
        let mut order: Vec<u32> = (0..experts.count as u32).collect();
        // Scores that are no numbers must not end the process; the logits will say so.
        order.sort_by(|&a, &b| {
            let (a, b) = (exps[a as usize], exps[b as usize]);
            b.total_cmp(&a)
        });
        order.truncate(experts.picked);
        let picked: f32 = order.iter().map(|&expert| exps[expert as usize]).sum();
        let total = if experts.normalised { picked } else { sum };
        weights.extend(order.iter().map(|&expert| exps[expert as usize] / total));
        picks.extend(order);
    }
    (picks, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_experts_are_picked_and_equals_by_index() {
        let experts = Experts {
            count: 4,
            picked: 2,
            normalised: true,
        };
        let scores = [1.0, 3.0, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0];
        let (picks, weights) = pick_rows(&scores, experts);
        assert_eq!(picks, [1, 3, 0, 1]);
        assert!((weights[0] + weights[1] - 1.0).abs() < 1e-6 && weights[0] > weights[1]);
        assert_eq!(weights[2..], [0.5, 0.5]);
        let plain = Experts {
            normalised: false,
            ..experts
        };
        assert_eq!(pick_rows(&scores[4..], plain).1, [0.25, 0.25]);
    }
}
