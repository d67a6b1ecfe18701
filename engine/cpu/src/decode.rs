//! Stored elements to float32: norms, biases and embedding rows.

use crate::WeightType;
use half::{bf16, f16};

/// Two bytes of a little-endian number at `at`.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Converts whole blocks of `ty` to float32.
///
/// Shapes: `bytes` holds exactly `out.len()` elements; any alignment.
/// Accuracy: exact for F32, F16, BF16; scale times integer, rounded once, for Q8_0.
/// Source: ggml, `ggml-common.h`.
pub fn decode(ty: WeightType, bytes: &[u8], out: &mut [f32]) {
    assert!(
        out.len().is_multiple_of(ty.block_elems()),
        "{} elements of {ty:?}",
        out.len()
    );
    assert_eq!(
        bytes.len(),
        ty.row_bytes(out.len()),
        "bytes of {} elements",
        out.len()
    );
    match ty {
        WeightType::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        WeightType::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        WeightType::Bf16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        WeightType::Q8_0 => {
            for (out, block) in out
                .as_chunks_mut::<32>()
                .0
                .iter_mut()
                .zip(bytes.chunks_exact(34))
            {
                let scale = f16::from_bits(u16_at(block, 0)).to_f32();
                for (out, value) in out.iter_mut().zip(&block[2..]) {
                    *out = scale * f32::from(*value as i8);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_at_an_odd_address() {
        let mut out = [0.0; 2];
        let halves = [9, 0x00, 0x3c, 0x00, 0xc0];
        decode(WeightType::F16, &halves[1..], &mut out);
        assert_eq!(out, [1.0, -2.0]);
        let brains = [9, 0x80, 0x3f, 0x20, 0xc0];
        decode(WeightType::Bf16, &brains[1..], &mut out);
        assert_eq!(out, [1.0, -2.5]);
        let mut block = [0_u8; 34];
        block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        block[2] = 3;
        block[33] = 0x80;
        let mut out = [0.0; 32];
        decode(WeightType::Q8_0, &block, &mut out);
        assert_eq!((out[0], out[1], out[31]), (1.5, 0.0, -64.0));
    }
}
