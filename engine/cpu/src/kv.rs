//! KV slices: K and V of 64 tokens of one layer, as attention reads them.
//!
//! ```text
//! K: head 0: token 0: head_dim elements, token 1, … token 63; head 1; …
//! V: the same
//! ```
//!
//! Elements are contiguous in the KV type. Q8 rows are blocks of 32 elements as in Q8_0 (f16
//! scale, 32 signed bytes), one scale per (head, token, block).

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use std::fmt;
use std::ops::Range;

/// Tokens of a slice.
pub const KV_TOKENS: usize = 64;

/// Type that K and V are rounded to when they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    F32,
    F16,
    /// Blocks of 32 elements; head_dim is a multiple of 32.
    Q8,
}

/// A shape that no slice can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvError {
    /// Q8 needs whole blocks of 32 elements.
    HeadDim { head_dim: usize },
    /// No heads, no elements, or a head larger than the kernels' scratch.
    Size { kv_heads: usize, head_dim: usize },
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadDim { head_dim } => {
                write!(
                    f,
                    "kv type q8 needs heads of a multiple of 32 elements, not {head_dim}"
                )
            }
            Self::Size { kv_heads, head_dim } => write!(
                f,
                "{kv_heads} kv heads of {head_dim} elements, expected at least one of 1..=512"
            ),
        }
    }
}

impl std::error::Error for KvError {}

impl KvType {
    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }

    /// Bytes of one token of one head.
    pub const fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => head_dim * 4,
            Self::F16 => head_dim * 2,
            Self::Q8 => head_dim / 32 * 34,
        }
    }
}

/// Shape of the slices of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    kv_heads: usize,
    head_dim: usize,
    ty: KvType,
}

impl KvShape {
    /// Largest head that the kernels' scratch holds.
    const HEAD_DIM_MAX: usize = 512;

    /// Checks that a slice of this shape exists.
    pub fn new(kv_heads: usize, head_dim: usize, ty: KvType) -> Result<Self, KvError> {
        if kv_heads == 0 || !(1..=Self::HEAD_DIM_MAX).contains(&head_dim) {
            return Err(KvError::Size { kv_heads, head_dim });
        }
        if ty == KvType::Q8 && !head_dim.is_multiple_of(32) {
            return Err(KvError::HeadDim { head_dim });
        }
        Ok(Self {
            kv_heads,
            head_dim,
            ty,
        })
    }

    /// Number of K heads, and of V heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Elements of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Type of the stored elements.
    pub fn ty(&self) -> KvType {
        self.ty
    }

    /// Bytes of one token of one head.
    pub fn row_bytes(&self) -> usize {
        self.ty.row_bytes(self.head_dim)
    }

    /// Bytes of one slice.
    pub fn slice_bytes(&self) -> usize {
        2 * self.kv_heads * KV_TOKENS * self.row_bytes()
    }

    /// Bytes of all tokens of K (`which` 0) or V (`which` 1) of one head.
    pub(crate) fn head<'a>(&self, slice: &'a [u8], which: usize, head: usize) -> &'a [u8] {
        let bytes = KV_TOKENS * self.row_bytes();
        &slice[(which * self.kv_heads + head) * bytes..][..bytes]
    }

    /// Bytes of some tokens of one head, which are `head`.
    pub(crate) fn tokens<'a>(&self, head: &'a [u8], tokens: &Range<usize>) -> &'a [u8] {
        &head[tokens.start * self.row_bytes()..tokens.end * self.row_bytes()]
    }

    /// Rounds K and V of one token to the KV type and stores them.
    ///
    /// Shapes: `slice` ([`KvShape::slice_bytes`]); `token` below 64; `k`, `v` (kv_heads,
    /// head_dim). Accuracy: F16 to nearest, ties to even; Q8 within `amax / 250` of a block.
    pub fn append(&self, slice: &mut [u8], token: usize, k: &[f32], v: &[f32]) {
        assert_eq!(slice.len(), self.slice_bytes(), "bytes of a kv slice");
        assert!(token < KV_TOKENS, "token {token} of a slice of 64");
        let bytes = self.row_bytes();
        for (which, row) in [k, v].into_iter().enumerate() {
            assert_eq!(
                row.len(),
                self.kv_heads * self.head_dim,
                "elements of a kv row"
            );
            for (head, x) in row.chunks_exact(self.head_dim).enumerate() {
                let at = ((which * self.kv_heads + head) * KV_TOKENS + token) * bytes;
                encode(self.ty, x, &mut slice[at..][..bytes]);
            }
        }
    }
}

fn encode(ty: KvType, x: &[f32], out: &mut [u8]) {
    match ty {
        KvType::F32 => {
            for (out, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(x) {
                *out = x.to_le_bytes();
            }
        }
        KvType::F16 => {
            // Many at a time, by the instructions that the CPU has for it.
            for (out, x) in out.chunks_mut(128).zip(x.chunks(64)) {
                let mut halves = [f16::ZERO; 64];
                halves[..x.len()].convert_from_f32_slice(x);
                for (out, half) in out.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                    *out = half.to_le_bytes();
                }
            }
        }
        KvType::Q8 => {
            for (out, x) in out.chunks_exact_mut(34).zip(x.chunks_exact(32)) {
                encode_q8(x, out);
            }
        }
    }
}

fn encode_q8(x: &[f32], out: &mut [u8]) {
    let amax = x.iter().fold(0.0_f32, |amax, x| amax.max(x.abs()));
    let scale = f16::from_f32(amax / 127.0);
    let inverse = if scale.to_f32() > 0.0 {
        1.0 / scale.to_f32()
    } else {
        0.0
    };
    out[..2].copy_from_slice(&scale.to_le_bytes());
    for (out, x) in out[2..].iter_mut().zip(x) {
        // the scale was rounded, so the quotient may pass 127; the cast saturates
        *out = (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
    }
}

/// Converts one stored token of one head to float32.
pub(crate) fn decode(ty: KvType, bytes: &[u8], out: &mut [f32]) {
    use crate::weight::WeightType;
    let ty = match ty {
        KvType::F32 => WeightType::F32,
        KvType::F16 => WeightType::F16,
        KvType::Q8 => WeightType::Q8_0,
    };
    crate::decode::decode(ty, bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_rounded_to_its_type() {
        let wave = |i: usize, f: f32| (i as f32 * f).sin() * 3.0;
        for (ty, tolerance) in [
            (KvType::F32, 0.0),
            (KvType::F16, 2e-3),
            (KvType::Q8, 3.0 / 250.0),
        ] {
            let shape = KvShape::new(2, 64, ty).expect("valid");
            let mut slice = vec![0; shape.slice_bytes()];
            let k: Vec<f32> = (0..128).map(|i| wave(i, 0.3)).collect();
            let v: Vec<f32> = (0..128).map(|i| wave(i, 0.7)).collect();
            shape.append(&mut slice, 63, &k, &v);
            for (which, row) in [&k, &v].into_iter().enumerate() {
                for head in 0..2 {
                    let bytes = &shape.head(&slice, which, head)[63 * shape.row_bytes()..];
                    let mut out = [0.0; 64];
                    decode(ty, bytes, &mut out);
                    for (out, x) in out.iter().zip(&row[head * 64..]) {
                        assert!((out - x).abs() <= tolerance, "{ty:?}: {out} for {x}");
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert_eq!(
            KvShape::new(1, 48, KvType::Q8),
            Err(KvError::HeadDim { head_dim: 48 })
        );
        assert!(KvShape::new(0, 64, KvType::F16).is_err());
        assert!(KvShape::new(1, 0, KvType::F16).is_err());
        assert!(KvShape::new(1, 48, KvType::F16).is_ok());
    }
}
