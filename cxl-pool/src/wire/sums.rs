//! Checksums of an object: crc32c of each 64 KiB, kept by the node, from which those of a MiB, of
//! a range and of the whole follow without reading the bytes again.

use crate::checksum::PIECE_MAX;
use crate::crc::{self, crc32c};

/// Bytes under one kept checksum.
pub const FINE: u64 = 64 << 10;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Sums {
    len: u64,
    fine: Box<[u32]>,
    whole: u32,
}

impl Sums {
    pub fn of(bytes: &[u8]) -> Self {
        let fine: Box<[u32]> = bytes.chunks(FINE as usize).map(crc32c).collect();
        let len = bytes.len() as u64;
        let whole = join(&fine, len);
        Self { len, fine, whole }
    }

    /// crc32c of the whole object.
    pub const fn whole(&self) -> u32 {
        self.whole
    }

    /// crc32c of each MiB, as the writer of an object tells them.
    pub fn pieces(&self) -> Vec<u32> {
        let mut left = self.len;
        let groups = self.fine.chunks((PIECE_MAX / FINE) as usize);
        let sums = groups.map(|group| {
            let len = left.min(PIECE_MAX);
            left -= len;
            join(group, len)
        });
        sums.collect()
    }

    /// Checksums of the pieces of `bytes`, which stand at `offset` of the object: kept ones for
    /// whole pieces, computed ones for those that the range cuts.
    pub fn of_range(&self, offset: u64, bytes: &[u8]) -> Vec<u32> {
        pieces(offset, bytes)
            .map(|(start, piece)| {
                let kept_len = FINE.min(self.len - start / FINE * FINE);
                if start.is_multiple_of(FINE) && piece.len() as u64 == kept_len {
                    self.fine[(start / FINE) as usize]
                } else {
                    crc32c(piece)
                }
            })
            .collect()
    }
}

/// crc32c of each MiB of an object, for its commit.
pub fn commit_crcs(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(PIECE_MAX as usize).map(crc32c).collect()
}

/// Whether `crcs` are those of `bytes`, which stand at `offset` of their object.
pub fn matches(offset: u64, bytes: &[u8], crcs: &[u32]) -> bool {
    count(offset, bytes.len() as u64) == crcs.len()
        && pieces(offset, bytes)
            .zip(crcs)
            .all(|((_, piece), &crc)| crc32c(piece) == crc)
}

/// Checksums that come with `len` bytes at `offset` of an object.
pub fn count(offset: u64, len: u64) -> usize {
    ((offset + len).div_ceil(FINE) - offset / FINE) as usize
}

/// The range cut at multiples of [`FINE`], with the place of each piece in the object.
fn pieces(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut at, mut rest) = (offset, bytes);
    std::iter::from_fn(move || {
        let len = ((FINE - at % FINE) as usize).min(rest.len());
        let (piece, behind) = rest.split_at(len);
        rest = behind;
        let start = at;
        at += len as u64;
        (len > 0).then_some((start, piece))
    })
}

/// The checksum of neighbours of [`FINE`] bytes each, the last one shorter, `len` bytes in all.
fn join(sums: &[u32], len: u64) -> u32 {
    let mut left = len;
    sums.iter().fold(0, |joined, &sum| {
        let piece = left.min(FINE);
        left -= piece;
        crc::join(joined, sum, piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against checksums of the bytes themselves, for any range.
        #[test]
        fn sums_follow_from_the_kept_ones(
            len in 1..3_000_000usize, at in 0..3_000_000usize, part in 1..600_000usize,
        ) {
            let data: Vec<u8> = (0..len).map(|i| ((i * i) >> 5) as u8).collect();
            let sums = Sums::of(&data);
            prop_assert_eq!(sums.whole(), crc32c(&data));
            prop_assert_eq!(sums.pieces(), commit_crcs(&data));
            let at = at % len;
            let end = (at + part).min(len);
            let mut range = data[at..end].to_vec();
            let crcs = sums.of_range(at as u64, &range);
            prop_assert!(matches(at as u64, &range, &crcs));
            let flipped = range.len() / 2;
            range[flipped] ^= 4;
            prop_assert!(!matches(at as u64, &range, &crcs));
        }
    }
}
