//! Stored elements to float32: norms, biases and embedding rows.

use crate::weight::WeightType;
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
        WeightType::Q4K => {
            let blocks = bytes.chunks_exact(Q4K_BYTES);
            for (out, block) in out.chunks_exact_mut(256).zip(blocks) {
                decode_q4k(block, out);
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

/// Bytes of a Q4_K block.
pub(crate) const Q4K_BYTES: usize = 144;

/// Scales and minimums of the eight sub-blocks of a Q4_K block, not yet times `d` and `dmin`.
///
/// The 12 bytes after the two f16 hold 6-bit numbers: scales 0..4, minimums 0..4 in the low six
/// bits of bytes 0..4 and 4..8; the low nibbles of scales 4..8 and of minimums 4..8 in bytes
/// 8..12, their top two bits in the top bits of bytes 0..4 and 4..8.
#[inline]
pub(crate) fn q4k_scales(block: &[u8]) -> ([u8; 8], [u8; 8]) {
    let word =
        |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let (scales, minimums, low) = (word(4), word(8), word(12));
    let eight = |first: u32, last: u32| (u64::from(first) | u64::from(last) << 32).to_le_bytes();
    // four 6-bit numbers at a time, one per byte
    let top = |word: u32| (word >> 2) & 0x3030_3030;
    (
        eight(scales & 0x3f3f_3f3f, (low & 0x0f0f_0f0f) | top(scales)),
        eight(
            minimums & 0x3f3f_3f3f,
            ((low >> 4) & 0x0f0f_0f0f) | top(minimums),
        ),
    )
}

/// Value `i` (0..32) of sub-block `sub` (0..8) of a Q4_K block: two sub-blocks share 32 bytes.
pub(crate) fn q4k_value(block: &[u8], sub: usize, i: usize) -> u8 {
    let byte = block[16 + sub / 2 * 32 + i];
    if sub.is_multiple_of(2) {
        byte & 15
    } else {
        byte >> 4
    }
}

/// The two f16 of a Q4_K block: scale of the scales, scale of the minimums.
pub(crate) fn q4k_factors(block: &[u8]) -> (f32, f32) {
    (
        f16::from_bits(u16_at(block, 0)).to_f32(),
        f16::from_bits(u16_at(block, 2)).to_f32(),
    )
}

fn decode_q4k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = q4k_factors(block);
    let (scales, minimums) = q4k_scales(block);
    for (sub, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = (d * f32::from(scales[sub]), dmin * f32::from(minimums[sub]));
        for (i, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(q4k_value(block, sub, i)) - minimum;
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

    #[test]
    fn q4k_bits_lie_where_the_format_says() {
        let mut block = [0_u8; 144];
        block[..2].copy_from_slice(&f16::from_f32(2.0).to_le_bytes());
        block[2..4].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        block[4] = 5 | (2 << 6); // scale 0, top of scale 4
        block[8] = 6 | (3 << 6); // minimum 0, top of minimum 4
        block[12] = 1 | (4 << 4); // low of scale 4, low of minimum 4
        block[16] = 7 | (9 << 4); // first value of sub-blocks 0 and 1
        block[16 + 64] = 11; // first value of sub-block 4
        let mut out = [0.0; 256];
        decode(WeightType::Q4K, &block, &mut out);
        assert_eq!(out[0], 2.0 * 5.0 * 7.0 - 0.5 * 6.0);
        assert_eq!(out[32], 0.0, "scale 1 is zero");
        assert_eq!(out[128], 2.0 * 33.0 * 11.0 - 0.5 * 52.0);
    }
}
