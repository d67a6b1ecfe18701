//! Random numbers by position: the n-th number of a stream costs the same for every n, so pieces
//! of a tensor can be made in any order and by any thread.
//!
//! Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.

/// Increment between the states, the odd integer nearest to 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of 64-bit numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    start: u64,
}

impl Stream {
    /// The stream of `name` under `seed`; other names and other seeds give unrelated ones.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let fold = |hash, byte: &u8| scramble(hash ^ u64::from(*byte));
        Self {
            start: name.as_bytes().iter().fold(scramble(seed), fold),
        }
    }

    #[inline]
    pub(crate) fn at(self, index: u64) -> u64 {
        scramble(self.start.wrapping_add(index.wrapping_mul(STEP)))
    }
}

#[inline]
const fn scramble(state: u64) -> u64 {
    let mut z = state.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// About normally distributed samples with mean 0 and standard deviation 1, made by exact integer
/// sums so that they are the same everywhere; none is beyond 6.
pub(crate) fn normal_table() -> Vec<f32> {
    const SAMPLES: u64 = 1 << 16;
    let stream = Stream::new(0, "normal table");
    let sample = |index: u64| {
        // Twelve uniform numbers have variance 1 together.
        let words = [0, 1, 2].map(|word| stream.at(3 * index + word));
        let sum: u32 = words
            .iter()
            .flat_map(|word| [0, 16, 32, 48].map(|shift| (word >> shift) as u16))
            .map(u32::from)
            .sum();
        (f64::from(sum) / 65_536.0 - 6.0 + 6.0 / 65_536.0) as f32
    };
    (0..SAMPLES).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_sequence_comes_out() {
        // First numbers of SplitMix64 from state 1234567, as published with the algorithm.
        let stream = Stream { start: 1_234_567 };
        let numbers = [0, 1, 2].map(|index| stream.at(index));
        let want = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, want);
    }

    #[test]
    fn the_table_is_normal() {
        let table = normal_table();
        let mean = |of: fn(f64) -> f64| {
            table.iter().map(|x| of(f64::from(*x))).sum::<f64>() / table.len() as f64
        };
        assert!(mean(|x| x).abs() < 0.02);
        assert!((mean(|x| x * x) - 1.0).abs() < 0.02);
        let beyond_two = table.iter().filter(|x| x.abs() > 2.0).count() as f64;
        assert!((beyond_two / table.len() as f64 - 0.0455).abs() < 0.005);
    }
}
