//! Seeded operands for the tests of the kernels.

#![expect(dead_code, reason = "each test file uses a part")]

use half::{bf16, f16};
use larder_cpu::{Isa, Kernels, Matrix, Pool, WeightType};
use std::sync::Arc;

/// Kernels that this CPU is known to run.
pub fn kernels(isa: Isa, threads: usize) -> Kernels {
    Kernels::new(isa, Arc::new(Pool::new(threads))).expect("available")
}

/// A seeded stream of numbers (xorshift).
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Uniform in -1..1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// A weight matrix at a chosen phase of a cache line.
pub struct Weights {
    pub ty: WeightType,
    pub rows: usize,
    pub cols: usize,
    bytes: Aligned,
    phase: usize,
}

impl Weights {
    pub fn new(ty: WeightType, rows: usize, cols: usize, phase: usize) -> Self {
        let values = Noise((rows * cols + phase) as u64).floats(rows * cols);
        let mut bytes = Vec::new();
        match ty {
            WeightType::F32 => values.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            WeightType::F16 => {
                values
                    .iter()
                    .for_each(|x| bytes.extend(f16::from_f32(*x).to_le_bytes()));
            }
            WeightType::Bf16 => {
                values
                    .iter()
                    .for_each(|x| bytes.extend(bf16::from_f32(*x).to_le_bytes()));
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
    pub fn moved(&self, phase: usize) -> Self {
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
    pub fn matrix(&self, first: usize, end: usize) -> Matrix<'_> {
        let row_bytes = self.ty.row_bytes(self.cols);
        let bytes = &self.bytes.bytes()[self.phase..][first * row_bytes..end * row_bytes];
        Matrix::new(self.ty, end - first, self.cols, bytes).expect("whole rows")
    }
}

/// Bytes whose first is 64-byte aligned.
pub struct Aligned {
    lines: Vec<u8>,
    first: usize,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize) -> Self {
        let lines = vec![0; len + 63];
        let first = lines.as_ptr().align_offset(64);
        Self { lines, first, len }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.lines[self.first..][..self.len]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.lines[self.first..][..self.len]
    }
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

pub fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance,
            "{what}: element {i} is {found}, expected {expected}"
        );
    }
}
