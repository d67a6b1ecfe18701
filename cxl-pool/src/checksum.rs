//! Checksums of blocks: crc32c per piece of at most 1 MiB, never across a part.
//!
//! For a model file they are made at the first full read and checked at every later one, while
//! the bytes are still in the cache of the core that received them. For a block that is stored on
//! a copy tier they are made while it is written, and checked when it is fetched again.

use crate::block::BlockSpec;
use crate::crc;
use crate::units::BlockId;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of one checksummed piece, at most.
pub const PIECE_MAX: u64 = 1 << 20;

/// A checksum did not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Index of the part in its block.
    pub part: usize,
    pub expected: u32,
    pub found: u32,
}

/// One checksummed piece of a run.
#[derive(Clone, Copy, Debug)]
struct Piece {
    part: usize,
    /// Index among the checksums of the block.
    index: usize,
    /// First and past-the-end byte, counted from the start of the run.
    start: u64,
    end: u64,
}

/// Running check of one run, fed front to back.
#[derive(Debug)]
pub struct RunCheck {
    pieces: Vec<Piece>,
    /// The piece that is being fed.
    at: usize,
    crc: u32,
    /// Bytes of the run fed so far.
    fed: u64,
}

/// The checksums of one block, `None` until first read.
pub type BlockSums = Vec<Option<u32>>;

/// The checksums of all blocks that have some, shared by the paths of a mover.
#[derive(Debug, Default)]
pub struct SumStore(Mutex<HashMap<BlockId, Arc<[u32]>>>);

impl SumStore {
    /// The checksums of a block that was read or written whole before.
    pub fn get(&self, block: BlockId) -> Option<Arc<[u32]>> {
        self.0.lock().get(&block).cloned()
    }

    /// The checksums to compare a move of `count` pieces with; all `None` where none are known.
    pub(crate) fn expected(&self, block: BlockId, count: usize) -> BlockSums {
        match self.get(block) {
            Some(sums) if sums.len() == count => sums.iter().copied().map(Some).collect(),
            _ => vec![None; count],
        }
    }

    /// Remembers the first reading of a block, unless somebody was faster.
    pub(crate) fn keep_first(&self, block: BlockId, sums: &BlockSums) {
        if let Some(sums) = sums.iter().copied().collect() {
            self.0.lock().entry(block).or_insert(sums);
        }
    }

    /// Takes `sums` for what the block holds from now on.
    pub fn replace(&self, block: BlockId, sums: Arc<[u32]>) {
        self.0.lock().insert(block, sums);
    }
}

/// Checks for each run of `spec`, and how many checksums the block has.
pub fn run_checks(spec: &BlockSpec) -> (SmallVec<[RunCheck; 4]>, usize) {
    let mut pieces: SmallVec<[Vec<Piece>; 4]> = spec.runs.iter().map(|_| Vec::new()).collect();
    let mut count = 0;
    for (part, range) in spec.parts.iter().enumerate() {
        let (mut start, end) = (range.offset, range.offset + range.len);
        while start < end {
            let next = (start + PIECE_MAX).min(end);
            pieces[usize::from(range.run)].push(Piece {
                part,
                index: count,
                start,
                end: next,
            });
            count += 1;
            start = next;
        }
    }
    let checks = pieces
        .into_iter()
        .map(|mut pieces| {
            pieces.sort_by_key(|piece| piece.start);
            RunCheck {
                pieces,
                at: 0,
                crc: 0,
                fed: 0,
            }
        })
        .collect();
    (checks, count)
}

/// The checksums of a block of one run whose bytes are `image`.
pub fn sums_of(spec: &BlockSpec, image: &[u8]) -> Arc<[u32]> {
    let (mut checks, count) = run_checks(spec);
    let mut sums = vec![None; count];
    let outcome = checks[0].feed(image, &mut sums);
    debug_assert!(outcome.is_ok(), "nothing is known that could differ");
    let whole: Option<Arc<[u32]>> = sums.into_iter().collect();
    whole.expect("an image has every byte of its parts")
}

impl RunCheck {
    /// Bytes of the run fed so far.
    pub fn fed(&self) -> u64 {
        self.fed
    }

    /// Takes the next bytes of the run; remembers or compares each checksum that completes.
    pub fn feed(&mut self, bytes: &[u8], sums: &mut BlockSums) -> Result<(), Mismatch> {
        let (start, end) = (self.fed, self.fed + bytes.len() as u64);
        self.fed = end;
        while let Some(piece) = self.pieces.get(self.at) {
            if piece.start >= end {
                break;
            }
            let from = piece.start.max(start);
            let to = piece.end.min(end);
            let slice = &bytes[(from - start) as usize..(to - start) as usize];
            self.crc = crc::append(self.crc, slice);
            if to < piece.end {
                break;
            }
            let found = std::mem::take(&mut self.crc);
            let expected = *sums[piece.index].get_or_insert(found);
            if expected != found {
                return Err(Mismatch {
                    part: piece.part,
                    expected,
                    found,
                });
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Run;
    use proptest::prelude::*;

    fn feed_all(spec: &BlockSpec, data: &[u8], cut: usize, sums: &mut BlockSums) -> bool {
        let (mut checks, count) = run_checks(spec);
        sums.resize(count, None);
        spec.runs.iter().zip(&mut checks).all(|(run, check)| {
            let bytes = &data[run.offset as usize..(run.offset + run.len) as usize];
            bytes
                .chunks(cut)
                .all(|chunk| check.feed(chunk, sums).is_ok())
        })
    }

    proptest! {
        /// However the bytes arrive, the sums are the same, and every flipped bit of a part is
        /// seen.
        #[test]
        fn every_flip_is_seen(cut in 1..5000usize, again in 1..5000usize, flip in 0..9000u64) {
            let ranges = [
                Run { file: 0, offset: 10, len: 3000 },
                Run { file: 0, offset: 3050, len: 2000 },
                Run { file: 0, offset: 20_000, len: 4000 },
            ];
            let spec = BlockSpec::from_ranges(&ranges);
            let mut data: Vec<u8> = (0..30_000u32).map(|i| ((i * i) >> 3) as u8).collect();
            let mut sums = BlockSums::new();
            prop_assert!(feed_all(&spec, &data, cut, &mut sums));
            prop_assert!(sums.iter().all(Option::is_some));
            prop_assert!(feed_all(&spec, &data, again, &mut sums));
            let (mut left, mut at) = (flip, 0);
            for range in &ranges {
                if left < range.len {
                    at = range.offset + left;
                    break;
                }
                left -= range.len;
            }
            data[at as usize] ^= 1;
            prop_assert!(!feed_all(&spec, &data, again, &mut sums));
        }
    }

    #[test]
    fn pieces_are_at_most_a_mebibyte_and_never_cross_a_part() {
        let ranges = [
            Run {
                file: 0,
                offset: 0,
                len: PIECE_MAX + 1,
            },
            Run {
                file: 0,
                offset: PIECE_MAX + 1,
                len: 5,
            },
        ];
        let (_, count) = run_checks(&BlockSpec::from_ranges(&ranges));
        assert_eq!(count, 3);
    }
}
