//! Work buffers: activations and logits of one step, in the arena like everything that grows.

use larder_pool::sys::lease::Scratch;
use larder_pool::sys::space::{DeviceKey, Extent, Space};
use larder_pool::units::GRANULE;
use std::sync::Arc;

/// A buffer of the step. Shapes: (rows, columns of the model).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buf {
    /// Residual stream.
    X,
    /// Normalised rows.
    Xn,
    Q,
    K,
    V,
    /// What attention gives.
    Att,
    /// Maximum and sum of the softmax of every head, between parts of an attention.
    Soft,
    /// Hidden row of the feed-forward part.
    H,
    Logits,
    /// Scores of the experts.
    Router,
    /// Rows of one expert, then what it makes of them.
    Group,
    /// What the experts give: (rows, picks of a row, residual).
    Picked,
}

/// Number of float buffers.
const BUFFERS: usize = 12;

/// Columns of each buffer, and bytes of a quantised row.
#[derive(Clone, Debug)]
pub struct WorkShape {
    cols: [usize; BUFFERS],
    /// Bytes of one quantised row of the widest input.
    pub quantised_bytes: usize,
}

impl WorkShape {
    /// Columns: residual, attention (q and its output), k or v, hidden, vocabulary, heads.
    pub const fn dense(
        dim: usize,
        attention: usize,
        kv: usize,
        ffn: usize,
        vocab: usize,
        heads: usize,
        quantised_bytes: usize,
    ) -> Self {
        let soft = 2 * heads;
        Self {
            cols: [
                dim, dim, attention, kv, kv, attention, soft, ffn, vocab, 0, 0, 0,
            ],
            quantised_bytes,
        }
    }

    /// Adds the buffers of `experts` experts, of which a row picks `picked`.
    #[must_use]
    pub const fn with_experts(mut self, experts: usize, picked: usize) -> Self {
        let dim = self.cols[Buf::X as usize];
        self.cols[Buf::Router as usize] = experts;
        self.cols[Buf::Group as usize] = dim;
        self.cols[Buf::Picked as usize] = picked * dim;
        self
    }

    /// Elements of a row of `buf`.
    pub const fn cols(&self, buf: Buf) -> usize {
        self.cols[buf as usize]
    }

    /// Bytes of each buffer for `rows` rows and `logits` rows of logits.
    fn sizes(&self, rows: usize, logits: usize) -> [u64; BUFFERS + 1] {
        let mut sizes = [0; BUFFERS + 1];
        for (index, &cols) in self.cols.iter().enumerate() {
            let count = if index == Buf::Logits as usize {
                logits
            } else {
                rows
            };
            sizes[index] = ((count * cols * size_of::<f32>()) as u64).next_multiple_of(GRANULE);
        }
        sizes[BUFFERS] = ((rows * self.quantised_bytes) as u64).next_multiple_of(GRANULE);
        sizes
    }

    /// Bytes that the buffers take in the arena.
    pub fn bytes(&self, rows: usize, logits: usize) -> u64 {
        self.sizes(rows, logits).iter().sum()
    }
}

/// Memory of one buffer. On a device, only the device gets its bytes.
#[derive(Debug)]
pub(crate) struct Buffer {
    scratch: Scratch,
    key: Option<Arc<DeviceKey>>,
}

impl Buffer {
    pub(crate) fn f32(&self) -> &[f32] {
        match &self.key {
            Some(key) => self.scratch.device_f32(key),
            None => self.scratch.f32(),
        }
    }

    pub(crate) fn f32_mut(&mut self) -> &mut [f32] {
        match &self.key {
            Some(key) => self.scratch.device_f32_mut(key),
            None => self.scratch.f32_mut(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.key {
            Some(key) => self.scratch.device_bytes(key),
            None => self.scratch.bytes(),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &self.key {
            Some(key) => self.scratch.device_bytes_mut(key),
            None => self.scratch.bytes_mut(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct WorkBuffers {
    pub(crate) shape: WorkShape,
    pub(crate) rows: usize,
    pub(crate) buffers: [Option<Buffer>; BUFFERS],
    pub(crate) quantised: Option<Buffer>,
}

impl WorkBuffers {
    /// Takes the buffers out of `space`, each with `alloc`; `None` if there is no room.
    pub fn new(
        shape: &WorkShape,
        rows: usize,
        logits: usize,
        space: &Arc<Space>,
        alloc: impl Fn(&Arc<Space>, u64) -> Option<Extent>,
    ) -> Option<Self> {
        let mut made: Vec<Option<Buffer>> = Vec::with_capacity(BUFFERS + 1);
        for bytes in shape.sizes(rows, logits) {
            made.push(match bytes {
                0 => None,
                _ => Some(Buffer {
                    scratch: Scratch::new(alloc(space, bytes)?),
                    key: None,
                }),
            });
        }
        let quantised = made.pop().flatten();
        let buffers = made.try_into().expect("one buffer per entry of `sizes`");
        Some(Self {
            shape: shape.clone(),
            rows,
            buffers,
            quantised,
        })
    }

    /// Gives the device its buffers.
    pub(crate) fn unlock(&mut self, key: Option<&Arc<DeviceKey>>) {
        let buffers = self.buffers.iter_mut().chain([&mut self.quantised]);
        for buffer in buffers.flatten() {
            buffer.key = key.cloned();
        }
    }

    /// Elements of `buf`, row after row.
    pub(crate) fn read(&self, buf: Buf) -> &[f32] {
        self.buffers[buf as usize]
            .as_ref()
            .expect("the step has this buffer")
            .f32()
    }

    pub(crate) fn write(&mut self, buf: Buf) -> &mut [f32] {
        self.buffers[buf as usize]
            .as_mut()
            .expect("the step has this buffer")
            .f32_mut()
    }

    /// Takes a buffer out, to be written while others are read; put it back.
    pub(crate) fn lift(&mut self, buf: Buf) -> Buffer {
        self.buffers[buf as usize]
            .take()
            .expect("the step has this buffer")
    }

    pub(crate) fn put_back(&mut self, buf: Buf, buffer: Buffer) {
        self.buffers[buf as usize] = Some(buffer);
    }
}
