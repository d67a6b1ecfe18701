//! Attention of a step on the CPU: heads normed and rotated, KV appended, slices attended to.

use super::CpuBackend;
use crate::backend::work::Buf;
use crate::backend::{Completed, SliceLeases};
use crate::config::RopeStyle;
use larder_cpu::{AttnRow, AttnShape, KV_TOKENS, Segment};
use larder_pool::sys::lease::AppendLease;

impl CpuBackend {
    /// Norms every head of q and k where the layer has norms for them.
    fn norm_heads(&mut self) {
        let (kv, rows, eps) = (
            self.shape.kv,
            self.step.positions.len(),
            self.shape.norm_eps,
        );
        let heads = [(Buf::Q, self.shape.heads), (Buf::K, kv.kv_heads())];
        for ((buf, heads), norm) in heads.into_iter().zip(&mut self.head_norms) {
            let Some(weight) = norm.take() else { continue };
            let work = self
                .work
                .as_mut()
                .expect("work buffers are set before a step begins");
            // What attention will write is free until then, and as long as q.
            let mut normed = work.lift(Buf::Att);
            let len = rows * heads * kv.head_dim();
            let out = &mut normed.f32_mut()[..len];
            self.kernels
                .rms_norm(&work.read(buf)[..len], &weight, eps, rows * heads, out);
            work.write(buf)[..len].copy_from_slice(out);
            work.put_back(Buf::Att, normed);
        }
    }

    pub(super) fn rotate(&mut self) {
        self.norm_heads();
        let Self {
            kernels,
            shape,
            rope,
            work,
            step,
            ..
        } = self;
        let work = work
            .as_mut()
            .expect("work buffers are set before a step begins");
        let (kv, heads, rows) = (shape.kv, shape.heads, step.positions.len());
        let style = match rope.style {
            RopeStyle::Adjacent => larder_cpu::RopeStyle::Adjacent,
            RopeStyle::Halves => larder_cpu::RopeStyle::Halves,
        };
        let head = kv.head_dim();
        for (buf, heads) in [(Buf::Q, heads), (Buf::K, kv.kv_heads())] {
            let vectors = &mut work.write(buf)[..rows * heads * head];
            kernels.rope(vectors, rows, heads, head, style, &step.angles);
        }
    }

    pub(super) fn attend_part(&mut self, slices: &SliceLeases) {
        self.attend_segment(slices, &[], false);
    }

    pub(super) fn attend(
        &mut self,
        slices: &SliceLeases,
        mut tails: Vec<AppendLease>,
    ) -> Completed {
        self.append(slices.first + slices.full.len(), &mut tails);
        self.attend_segment(slices, &tails, true);
        Completed {
            tails,
            picks: Vec::new(),
        }
    }

    /// Appends k and v of every row to its tail; the first one is slice `first`.
    fn append(&mut self, first: usize, tails: &mut [AppendLease]) {
        let kv = self.shape.kv;
        let cols = kv.kv_heads() * kv.head_dim();
        let work = self
            .work
            .as_ref()
            .expect("work buffers are set before a step begins");
        let (k, v) = (work.read(Buf::K), work.read(Buf::V));
        for (row, &position) in self.step.positions.iter().enumerate() {
            let tail = &mut tails[position / KV_TOKENS - first];
            let slice = &mut self.view.tail_mut(tail)[..kv.slice_bytes()];
            let (k, v) = (&k[row * cols..][..cols], &v[row * cols..][..cols]);
            kv.append(slice, position % KV_TOKENS, k, v);
        }
    }

    fn attend_segment(&mut self, slices: &SliceLeases, tails: &[AppendLease], is_last: bool) {
        let Self {
            kernels,
            shape,
            work,
            step,
            view,
            ..
        } = self;
        let work = work
            .as_mut()
            .expect("work buffers are set before a step begins");
        let (kv, heads, rows) = (shape.kv, shape.heads, step.positions.len());
        let full = slices.full.iter().map(|lease| view.part(lease, 0));
        let tails = tails
            .iter()
            .map(|lease| &view.tail(lease)[..kv.slice_bytes()]);
        let all: Vec<&[u8]> = full.chain(tails).collect();
        let segment = Segment {
            first_slice: slices.first,
            slices: &all,
            is_first: slices.first == 0,
            is_last,
        };
        let attention = AttnShape {
            heads,
            kv,
            scale: 1.0 / (kv.head_dim() as f32).sqrt(),
            window: shape.window,
            sinks: None,
        };
        let places: Vec<AttnRow> = step
            .positions
            .iter()
            .map(|&position| AttnRow { seq: 0, position })
            .collect();
        let (mut att, mut soft) = (work.lift(Buf::Att), work.lift(Buf::Soft));
        let elems = rows * heads * kv.head_dim();
        kernels.attention_segment(
            &attention,
            &places,
            &work.read(Buf::Q)[..elems],
            &segment,
            &mut soft.f32_mut()[..rows * heads * 2],
            &mut att.f32_mut()[..elems],
        );
        work.put_back(Buf::Att, att);
        work.put_back(Buf::Soft, soft);
    }
}
