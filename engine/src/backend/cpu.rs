//! The CPU backend: runs operations on the worker pool of the kernels when they are enqueued, but
//! for products, which wait for those that can run with them.

mod attention;
mod experts;
mod products;

use crate::backend::work::{Buf, WorkBuffers, WorkShape};
use crate::backend::{Backend, Completed, Op, RowRange, StepShape, StoredRow, Token, Weight};
use crate::config::Rope;
use experts::Routing;
use larder_cpu::decode::decode;
use larder_cpu::{Class, Kernels, Matrix, RopeTable, WeightType};
use larder_pool::sys::lease::{AppendLease, ReadLease};
use larder_pool::sys::space::DeviceKey;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Blocks whose products run together at most.
const BLOCKS_AHEAD: usize = 16;

/// See the module.
pub struct CpuBackend {
    kernels: Kernels,
    shape: StepShape,
    rope: Rope,
    work: Option<WorkBuffers>,
    step: Step,
    /// Norms of the heads of q and of k for the next attention.
    head_norms: [Option<Vec<f32>>; 2],
    view: View,
    routing: Routing,
    completed: HashMap<u64, Completed>,
    next_token: u64,
    /// Products that have not run: those enqueued last.
    waiting: Vec<Op>,
}

/// What `Op::Begin` says about the rows of the step.
struct Step {
    class: Class,
    positions: Vec<usize>,
    angles: RopeTable,
}

/// Columns of the work buffers of a model on these kernels.
pub fn work_shape(shape: &StepShape, quantises: bool) -> WorkShape {
    let attention = shape.heads * shape.kv.head_dim();
    let kv = shape.kv.kv_heads() * shape.kv.head_dim();
    let widest = shape.dim.max(attention).max(shape.ffn);
    let quantised = if quantises {
        Kernels::quantised_bytes(widest)
    } else {
        0
    };
    let dense = WorkShape::dense(
        shape.dim,
        attention,
        kv,
        shape.ffn,
        shape.vocab,
        shape.heads,
        quantised,
    );
    match shape.experts {
        Some(experts) => dense.with_experts(experts.count, experts.picked),
        None => dense,
    }
}

impl CpuBackend {
    pub fn new(
        kernels: Kernels,
        shape: StepShape,
        rope: Rope,
        key: Option<Arc<DeviceKey>>,
    ) -> Self {
        let step = Step {
            class: Class::Step,
            positions: Vec::new(),
            angles: RopeTable::from_inverse_frequencies(&[], &[], 1.0),
        };
        Self {
            kernels,
            shape,
            rope,
            work: None,
            step,
            head_norms: [None, None],
            view: View(key),
            routing: Routing::default(),
            completed: HashMap::new(),
            next_token: 0,
            waiting: Vec::new(),
        }
    }

    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    fn work(&mut self) -> &mut WorkBuffers {
        self.work
            .as_mut()
            .expect("work buffers are set before a step begins")
    }

    fn begin(&mut self, class: Class, positions: &[u32]) {
        let positions: Vec<usize> = positions
            .iter()
            .map(|&position| position as usize)
            .collect();
        let factors = (!self.rope.factors.is_empty()).then_some(self.rope.factors.as_slice());
        let angles = RopeTable::new(&positions, self.rope.dims, self.rope.theta, factors, 1.0);
        self.step = Step {
            class,
            positions,
            angles,
        };
    }

    fn embed(&mut self, rows: &[StoredRow], ty: WeightType, first: usize) {
        let dim = self.shape.dim;
        let bytes = ty.row_bytes(dim);
        let view = self.view.clone();
        let x = &mut self.work().write(Buf::X)[first * dim..];
        for (stored, x) in rows.iter().zip(x.chunks_exact_mut(dim)) {
            let part = view.part(&stored.lease, stored.part);
            decode(ty, &part[stored.row * bytes..][..bytes], x);
        }
    }

    fn norm(&mut self, weight: &Weight, rows: RowRange) {
        let (dim, eps) = (self.shape.dim, self.shape.norm_eps);
        let vector = self.view.vector(weight);
        let work = self
            .work
            .as_mut()
            .expect("work buffers are set before a step begins");
        let mut xn = work.lift(Buf::Xn);
        let x = &work.read(Buf::X)[rows.first * dim..][..rows.count * dim];
        let out = &mut xn.f32_mut()[..rows.count * dim];
        self.kernels.rms_norm(x, &vector, eps, rows.count, out);
        work.put_back(Buf::Xn, xn);
        self.quantise(Buf::Xn, rows.count);
    }

    fn quantise(&mut self, from: Buf, count: usize) {
        let work = self
            .work
            .as_mut()
            .expect("work buffers are set before a step begins");
        let cols = work.shape.cols(from);
        let Some(mut quantised) = work.quantised.take() else {
            return;
        };
        if cols.is_multiple_of(WeightType::Q8_0.block_elems()) {
            let x = &work.read(from)[..count * cols];
            let bytes = count * Kernels::quantised_bytes(cols);
            self.kernels
                .quantise(x, cols, &mut quantised.bytes_mut()[..bytes]);
        }
        work.quantised = Some(quantised);
    }

    fn bias(&mut self, weight: &Weight, to: Buf, count: usize) {
        let vector = self.view.vector(weight);
        let rows = self.work().write(to).chunks_exact_mut(vector.len());
        for row in rows.take(count) {
            row.copy_from_slice(&vector);
        }
    }

    fn run(&mut self, op: Op) -> Completed {
        match op {
            Op::Begin { class, positions } => self.begin(class, &positions),
            Op::Embed { rows, ty, first } => self.embed(&rows, ty, first),
            Op::Norm { weight, rows } => self.norm(&weight, rows),
            Op::Quantise { from, count } => self.quantise(from, count),
            Op::HeadNorm { weight, of } => {
                let index = usize::from(of != Buf::Q);
                self.head_norms[index] = Some(self.view.vector(&weight));
            }
            Op::Bias { weight, to, count } => self.bias(&weight, to, count),
            product @ (Op::MatMul { .. } | Op::GateUp { .. }) => self.waiting.push(product),
            Op::Route { count } => return self.route(count),
            Op::Foresee {
                norm,
                router,
                count,
            } => return self.foresee(&norm, &router, count),
            Op::Expert {
                gate,
                up,
                down,
                picks,
            } => self.expert([&gate, &up, &down], &picks),
            Op::Combine { count } => self.combine(count),
            Op::Rotate => self.rotate(),
            Op::AttendPart(slices) => self.attend_part(&slices),
            Op::Attend { slices, tails } => return self.attend(&slices, tails),
        }
        Completed::default()
    }
}

/// How the bytes of leases are reached: in place, or with the key of the device we play.
#[derive(Clone, Debug)]
struct View(Option<Arc<DeviceKey>>);

impl View {
    fn part<'a>(&'a self, lease: &'a ReadLease, part: usize) -> &'a [u8] {
        match &self.0 {
            Some(key) => lease.device_part(key, part),
            None => lease.part(part),
        }
    }

    fn tail<'a>(&'a self, lease: &'a AppendLease) -> &'a [u8] {
        match &self.0 {
            Some(key) => lease.device_bytes(key),
            None => lease.bytes(),
        }
    }

    fn tail_mut<'a>(&'a self, lease: &'a mut AppendLease) -> &'a mut [u8] {
        match &self.0 {
            Some(key) => lease.device_bytes_mut(key),
            None => lease.bytes_mut(),
        }
    }

    /// The rows as the kernels see them. The manifest checked their shape against their bytes.
    fn matrix<'a>(&'a self, weight: &'a Weight) -> Matrix<'a> {
        let bytes = self.part(&weight.lease, weight.part);
        Matrix::new(weight.ty, weight.rows, weight.cols, bytes)
            .expect("parts have the bytes of their rows")
    }

    /// A vector of weights in float32.
    fn vector(&self, weight: &Weight) -> Vec<f32> {
        let mut values = vec![0.0; weight.rows * weight.cols];
        decode(
            weight.ty,
            self.part(&weight.lease, weight.part),
            &mut values,
        );
        values
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        format!(
            "cpu {} x {}",
            self.kernels.isa().name(),
            self.kernels.pool().threads()
        )
    }

    fn set_work(&mut self, mut work: WorkBuffers) -> Option<WorkBuffers> {
        self.run_waiting();
        work.unlock(self.view.0.as_ref());
        self.work.replace(work)
    }

    fn blocks_ahead(&self) -> usize {
        BLOCKS_AHEAD
    }

    fn rows_max(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.rows)
    }

    fn enqueue(&mut self, op: Op) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        if !products::joins(&self.waiting, &op) {
            self.run_waiting();
        }
        let completed = self.run(op);
        if !completed.is_empty() {
            self.completed.insert(token, completed);
        }
        Token(token)
    }

    fn is_complete(&self, token: &Token) -> bool {
        token.0 + (self.waiting.len() as u64) < self.next_token
    }

    fn flush(&mut self) {
        self.run_waiting();
    }

    fn finish(&mut self, token: Token) -> Completed {
        if !self.is_complete(&token) {
            self.run_waiting();
        }
        self.completed.remove(&token.0).unwrap_or_default()
    }

    fn read_probe(&mut self, blocks: &[ReadLease]) -> f64 {
        self.run_waiting();
        let parts = blocks
            .iter()
            .flat_map(|lease| (0..lease.parts()).map(|part| self.view.part(lease, part)));
        let parts: Vec<&[u8]> = parts.collect();
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let start = Instant::now();
        std::hint::black_box(self.kernels.read_probe(&parts));
        bytes as f64 / start.elapsed().as_secs_f64()
    }

    fn download(&mut self, buf: Buf, row: usize, out: &mut [f32]) {
        self.run_waiting();
        let cols = out.len();
        out.copy_from_slice(&self.work().read(buf)[row * cols..][..cols]);
    }
}
