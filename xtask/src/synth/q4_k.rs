//! Super-blocks of Q4_K with a given standard deviation.
//!
//! ```text
//! d f16 | dmin f16 | scales 12 bytes: 8 x scale, 8 x min, 6 bits each | 256 x 4 bits
//! element = d * scale * q - dmin * min
//! ```
//!
//! Source: ggml, `block_q4_K` and `get_scale_min_k4`.

use super::halves::f16_bits;
use super::random::Stream;

/// Elements of a super-block.
pub(crate) const ELEMENTS: u64 = 256;
/// Bytes of a super-block.
pub(crate) const BYTES: u64 = 144;

/// Random words of a super-block: one for `d` and the scales, one for 16 elements each.
const WORDS: u64 = 1 + ELEMENTS / 16;

/// Standard deviation of a number drawn evenly from 0..=15.
const STEP_DEVIATION: f32 = 4.609_772;
/// Root of the mean square of a number drawn evenly from 32..=63.
const SCALE_RMS: f32 = 48.389_046;
/// The same of the factor of `d`, drawn evenly from 0.75..1.25.
const FACTOR_RMS: f32 = 1.010_363;

/// Each scale is its own min and `dmin` is 7.5 `d`, so the mean of every group of 32 is zero.
pub(crate) fn fill(stream: Stream, deviation: f32, start: u64, out: &mut [u8]) {
    let middle = deviation / (STEP_DEVIATION * SCALE_RMS * FACTOR_RMS);
    for (index, block) in out.chunks_exact_mut(BYTES as usize).enumerate() {
        let word = WORDS * (start / BYTES + index as u64);
        let head = stream.at(word);
        let factor = 0.75 + (head >> 40) as f32 / (1 << 25) as f32;
        block[..2].copy_from_slice(&f16_bits(middle * factor).to_le_bytes());
        block[2..4].copy_from_slice(&f16_bits(7.5 * middle * factor).to_le_bytes());
        let scales = std::array::from_fn(|group| 32 + (head >> (5 * group)) as u8 % 32);
        block[4..16].copy_from_slice(&pack(scales));
        for (at, eight) in block[16..].chunks_exact_mut(8).enumerate() {
            eight.copy_from_slice(&stream.at(word + 1 + at as u64).to_le_bytes());
        }
    }
}

/// Eight numbers of 6 bits, as scales and once more as mins.
fn pack(scales: [u8; 8]) -> [u8; 12] {
    let (low, high) = scales.split_at(4);
    let mut bytes = [0; 12];
    for (at, (low, high)) in low.iter().zip(high).enumerate() {
        bytes[at] = low | (high >> 4 << 6);
        bytes[at + 4] = bytes[at];
        bytes[at + 8] = (high & 15) * 0x11;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The half-precision number of `bits`, normal or not, positive.
    fn half(bits: [u8; 2]) -> f32 {
        let bits = u16::from_le_bytes(bits);
        let fraction = f32::from(bits & 0x3ff) / 1024.0;
        match bits >> 10 {
            0 => fraction * 2f32.powi(-14),
            exponent => (1.0 + fraction) * 2f32.powi(i32::from(exponent) - 15),
        }
    }

    /// Scale and min of a group, written after the definition and not after `pack`.
    fn scale_and_min(scales: &[u8], group: usize) -> (f32, f32) {
        let (scale, min) = if group < 4 {
            (scales[group] & 63, scales[group + 4] & 63)
        } else {
            let low = scales[group + 4];
            let (high, high_min) = (scales[group - 4] >> 6, scales[group] >> 6);
            ((low & 15) | (high << 4), (low >> 4) | (high_min << 4))
        };
        (f32::from(scale), f32::from(min))
    }

    fn elements(block: &[u8]) -> Vec<f32> {
        let (d, dmin) = (half([block[0], block[1]]), half([block[2], block[3]]));
        let of = |at: usize| {
            let (scale, min) = scale_and_min(&block[4..16], at / 32);
            // 32 bytes hold two groups: the low halves are the first.
            let byte = block[16 + at / 64 * 32 + at % 32];
            let q = byte >> (at / 32 % 2 * 4) & 15;
            d * scale * f32::from(q) - dmin * min
        };
        (0..ELEMENTS as usize).map(of).collect()
    }

    #[test]
    fn super_blocks_have_the_deviation_asked_for() {
        for deviation in [0.02f32, 0.004] {
            let mut bytes = vec![0; 1024 * BYTES as usize];
            fill(Stream::new(1, "x"), deviation, 0, &mut bytes);
            let all: Vec<f32> = bytes.chunks_exact(144).flat_map(elements).collect();
            let count = all.len() as f32;
            let mean = all.iter().sum::<f32>() / count;
            let square = all.iter().map(|x| x * x).sum::<f32>() / count;
            assert!(mean.abs() < 0.01 * deviation, "{mean}");
            assert!((square.sqrt() / deviation - 1.0).abs() < 0.01, "{square}");
            let most = all.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!(most > 2.0 * deviation && most < 4.0 * deviation, "{most}");
        }
    }

    #[test]
    fn scales_survive_packing() {
        let scales = [0, 1, 15, 16, 31, 32, 47, 63];
        let bytes = pack(scales);
        for (group, scale) in scales.into_iter().enumerate() {
            let scale = f32::from(scale);
            assert_eq!(scale_and_min(&bytes, group), (scale, scale), "{group}");
        }
    }
}
