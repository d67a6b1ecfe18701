//! Random values as the bytes of each weight type.

use super::halves::{bf16_bits, f16_bits};
use super::q4_k;
use super::random::Stream;

/// Type of the matrices, with the numbers that GGUF gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ValueType {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_k")]
    Q4K,
}

impl ValueType {
    /// Number of the type in a tensor's entry. Source: ggml, `enum ggml_type`.
    pub(crate) const fn gguf_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Bf16 => 30,
        }
    }

    /// Value of `general.file_type`. Source: llama.cpp, `enum llama_ftype`.
    pub(crate) const fn gguf_file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Q4K => 15,
            Self::Bf16 => 32,
        }
    }

    /// Elements of a block and their bytes; rows are whole blocks.
    pub(crate) const fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (q4_k::ELEMENTS, q4_k::BYTES),
        }
    }

    pub(crate) const fn bytes(self, elements: u64) -> u64 {
        let (block_elements, block_bytes) = self.block();
        elements / block_elements * block_bytes
    }
}

/// How the values of a tensor come about.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Random around `mean`, with standard deviation `deviation`.
    Random {
        value_type: ValueType,
        stream: Stream,
        mean: f32,
        deviation: f32,
    },
    /// F32, given one by one.
    Given(Vec<f32>),
}

/// Pieces are cut at multiples of this, so that no block of any type is cut.
/// It is a multiple of the bytes of a block of Q8_0 and of Q4_K, and of those that one random word
/// makes of the other types: 16 of F32, 8 of the halves.
pub(crate) const PIECE_UNIT_BYTES: u64 = 34 * 72;

const _: () = assert!(PIECE_UNIT_BYTES.is_multiple_of(q4_k::BYTES));
const _: () = assert!(PIECE_UNIT_BYTES.is_multiple_of(16));

impl Values {
    /// Writes the bytes of the tensor from byte `start` on; `start` is a multiple of
    /// `PIECE_UNIT_BYTES`. `normal` is the table of `random::normal_table`.
    pub(crate) fn fill(&self, normal: &[f32], start: u64, out: &mut [u8]) {
        assert_eq!(start % PIECE_UNIT_BYTES, 0, "a piece begins inside a unit");
        match self {
            Self::Given(values) => {
                assert_eq!(start, 0, "given values are one piece");
                for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
            &Self::Random {
                value_type,
                stream,
                mean,
                deviation,
            } => {
                let scaled = |sample: &f32| mean + deviation * sample;
                match value_type {
                    ValueType::Q8_0 => fill_q8_0(stream, deviation, start, out),
                    ValueType::Q4K => q4_k::fill(stream, deviation, start, out),
                    ValueType::F32 => {
                        let table: Vec<f32> = normal.iter().map(scaled).collect();
                        fill_by_table(stream, &table, start / 16, out, f32::to_le_bytes);
                    }
                    ValueType::F16 => {
                        let table: Vec<u16> = normal.iter().map(|x| f16_bits(scaled(x))).collect();
                        fill_by_table(stream, &table, start / 8, out, u16::to_le_bytes);
                    }
                    ValueType::Bf16 => {
                        let table: Vec<u16> = normal.iter().map(|x| bf16_bits(scaled(x))).collect();
                        fill_by_table(stream, &table, start / 8, out, u16::to_le_bytes);
                    }
                }
            }
        }
    }
}

/// Four elements from each random word, the first word being `word`.
fn fill_by_table<T: Copy, const N: usize>(
    stream: Stream,
    table: &[T],
    word: u64,
    out: &mut [u8],
    to_bytes: fn(T) -> [u8; N],
) {
    let table: &[T; 1 << 16] = table.try_into().expect("one entry for each 16-bit number");
    for (index, four) in out.chunks_mut(4 * N).enumerate() {
        let mut random = stream.at(word + index as u64);
        for element in four.chunks_exact_mut(N) {
            element.copy_from_slice(&to_bytes(table[usize::from(random as u16)]));
            random >>= 16;
        }
    }
}

/// Five random words for each block: one for the scale, four for the elements.
fn fill_q8_0(stream: Stream, deviation: f32, start: u64, out: &mut [u8]) {
    // Standard deviation of a number drawn evenly from -127..=127.
    const STEP_DEVIATION: f32 = 73.6;
    let scale = deviation / STEP_DEVIATION;
    for (index, block) in out.chunks_exact_mut(34).enumerate() {
        let word = 5 * (start / 34 + index as u64);
        // Scales differ as those of real rows do: 0.75 to 1.25 times the middle.
        let factor = 0.75 + (stream.at(word) >> 40) as f32 / (1 << 25) as f32;
        block[..2].copy_from_slice(&f16_bits(scale * factor).to_le_bytes());
        for (at, eight) in block[2..].chunks_exact_mut(8).enumerate() {
            let random = stream.at(word + 1 + at as u64).to_le_bytes();
            for (out, byte) in eight.iter_mut().zip(random) {
                // -128 is outside what a quantiser gives.
                *out = if byte == 0x80 { 0x81 } else { byte };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::normal_table;
    use super::*;

    #[test]
    fn pieces_join_to_the_whole() {
        let normal = normal_table();
        for value_type in [
            ValueType::F32,
            ValueType::F16,
            ValueType::Bf16,
            ValueType::Q8_0,
            ValueType::Q4K,
        ] {
            let stream = Stream::new(1, "x");
            let values = Values::Random {
                value_type,
                stream,
                mean: 0.0,
                deviation: 0.02,
            };
            let unit = PIECE_UNIT_BYTES as usize;
            let mut whole = vec![0; 4 * unit];
            values.fill(&normal, 0, &mut whole);
            let mut part = vec![0; 2 * unit];
            values.fill(&normal, PIECE_UNIT_BYTES, &mut part);
            assert_eq!(whole[unit..3 * unit], part, "{value_type:?}");
            assert_ne!(whole[..unit], whole[unit..2 * unit], "{value_type:?}");
        }
    }

    #[test]
    fn q8_0_has_the_deviation_asked_for() {
        let stream = Stream::new(1, "x");
        let mut bytes = vec![0; 34 * 1024];
        fill_q8_0(stream, 0.02, 0, &mut bytes);
        let mut squares = 0.0;
        for block in bytes.chunks_exact(34) {
            // Undo the half precision of a positive normal number.
            let half = u32::from(u16::from_le_bytes([block[0], block[1]]));
            let scale = f32::from_bits((half << 13) + ((127 - 15) << 23));
            let elements = block[2..].iter().map(|byte| byte.cast_signed());
            squares += elements
                .map(|x| (f32::from(x) * scale).powi(2))
                .sum::<f32>();
        }
        let deviation = (squares / (32.0 * 1024.0)).sqrt();
        assert!((deviation - 0.02).abs() < 0.001, "{deviation}");
    }
}
