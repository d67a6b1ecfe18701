//! Seeded operands for the tests of the kernels.

use half::{bf16, f16};
use larder_cpu::{Isa, Kernels, Matrix, Pool, WeightType};
use std::sync::Arc;

/// Kernels that this CPU is known to run.
pub(crate) fn kernels(isa: Isa, threads: usize) -> Kernels {
    Kernels::new(isa, Arc::new(Pool::new(threads))).expect("available")
}

/// A seeded stream of numbers (xorshift).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Uniform in -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// A weight matrix at a chosen phase of a cache line.
pub(crate) struct Weights {
    pub(crate) ty: WeightType,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    bytes: Aligned,
    phase: usize,
}

impl Weights {
    pub(crate) fn new(ty: WeightType, rows: usize, cols: usize, phase: usize) -> Self {
        let values = Noise((rows * cols + phase) as u64).floats(rows * cols);
        let mut bytes = Vec::new();
        match ty {
            WeightType::F32 => bytes.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            WeightType::F16 => {
                bytes.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
            }
            WeightType::Bf16 => {
                bytes.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()));
            }
            WeightType::Q4K => {
                let mut noise = Noise(values[0].to_bits().into());
                for _ in values.chunks(256) {
                    // weights within -1..1: 15 values × 63 scales, minimum 63
                    bytes.extend(f16::from_f32(1.0 / 945.0).to_le_bytes());
                    bytes.extend(f16::from_f32(0.5 / 63.0).to_le_bytes());
                    bytes.extend((0..140).map(|_| noise.next() as u8));
                }
            }
            WeightType::Q8_0 => {
                for block in values.chunks(32) {
                    bytes.extend(f16::from_f32(1.0 / 127.0).to_le_bytes());
                    // -128 too: files may hold it
                    bytes.extend(
                        block
                            .iter()
                            .map(|x| (x * 129.0).clamp(-128.0, 127.0) as i8 as u8),
                    );
                }
            }
        }
        Self::at(ty, rows, cols, phase, &bytes)
    }

    /// The same weights at another phase.
    pub(crate) fn moved(&self, phase: usize) -> Self {
        Self::at(
            self.ty,
            self.rows,
            self.cols,
            phase,
            self.matrix(0, self.rows).bytes(),
        )
    }

    fn at(ty: WeightType, rows: usize, cols: usize, phase: usize, bytes: &[u8]) -> Self {
        let mut aligned = Aligned::new(phase + bytes.len());
        aligned.bytes_mut()[phase..].copy_from_slice(bytes);
        Self {
            ty,
            rows,
            cols,
            bytes: aligned,
            phase,
        }
    }

    /// Rows `first..end`.
    pub(crate) fn matrix(&self, first: usize, end: usize) -> Matrix<'_> {
        let row_bytes = self.ty.row_bytes(self.cols);
        let bytes = &self.bytes.bytes()[self.phase..][first * row_bytes..end * row_bytes];
        Matrix::new(self.ty, end - first, self.cols, bytes).expect("whole rows")
    }
}

/// Bytes whose first is 64-byte aligned.
pub(crate) struct Aligned {
    lines: Vec<u8>,
    first: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(len: usize) -> Self {
        let lines = vec![0; len + 63];
        let first = lines.as_ptr().align_offset(64);
        Self { lines, first, len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.lines[self.first..][..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.lines[self.first..][..self.len]
    }
}

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

pub(crate) fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance,
            "{what}: element {i} is {found}, expected {expected}"
        );
    }
}
