//! What a block is made of: runs of source bytes, and the parts that kernels read from them.
//!
//! A block knows nothing about models. Its runs say where its bytes stand in the files of the
//! source, its parts say which slices of those runs somebody will ask for by index.

use crate::units::GRANULE;
use larder_sys::lease::ReadLease;
use smallvec::SmallVec;

/// Contiguous bytes of one source file. Unaligned: it is read with the pages around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the file in the source.
    pub file: u32,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes, never zero.
    pub len: u64,
}

impl Run {
    /// First byte of the page-aligned range that covers the run.
    pub const fn aligned_offset(&self) -> u64 {
        self.offset / GRANULE * GRANULE
    }

    /// Distance of the run from [`Self::aligned_offset`], in the file and in the extent.
    pub const fn phase(&self) -> u64 {
        self.offset % GRANULE
    }

    /// Bytes of the page-aligned range that covers the run.
    pub const fn aligned_len(&self) -> u64 {
        (self.phase() + self.len).div_ceil(GRANULE) * GRANULE
    }
}

/// One tensor, or row slice of one, inside a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSpec {
    /// Index into [`BlockSpec::runs`].
    pub run: u16,
    /// First byte, counted from the start of the run.
    pub offset: u64,
    /// Bytes, never zero; parts of one run never overlap and stand in ascending order.
    pub len: u64,
}

/// Runs and parts of one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSpec {
    pub runs: SmallVec<[Run; 4]>,
    pub parts: SmallVec<[PartSpec; 8]>,
}

impl BlockSpec {
    /// Cuts a block from parts given as source ranges, in the caller's part order.
    ///
    /// Ranges of one file that touch or stand less than a page apart share a run, hence one
    /// extent and one read.
    pub fn from_ranges(ranges: &[Run]) -> Self {
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.sort_by_key(|&i| (ranges[i].file, ranges[i].offset));
        let mut spec = Self::default();
        spec.parts.resize(
            ranges.len(),
            PartSpec {
                run: 0,
                offset: 0,
                len: 0,
            },
        );
        for i in order {
            let range = ranges[i];
            let joins = spec.runs.last().is_some_and(|last: &Run| {
                let end = last.offset + last.len;
                last.file == range.file && range.offset >= end && range.offset - end < GRANULE
            });
            if joins {
                let last = spec.runs.last_mut().expect("joins only an existing run");
                last.len = range.offset + range.len - last.offset;
            } else {
                spec.runs.push(range);
            }
            let run = spec.runs.len() - 1;
            let offset = range.offset - spec.runs[run].offset;
            spec.parts[i] = PartSpec {
                run: run as u16,
                offset,
                len: range.len,
            };
        }
        spec
    }

    /// Bytes of the parts, without the gaps and pages around them.
    pub fn data_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// Bytes that the block takes on a tier filled from the source: its page-aligned runs, back
    /// to back in one extent.
    pub fn extent_bytes(&self) -> u64 {
        self.runs.iter().map(Run::aligned_len).sum()
    }

    /// Where run `index` starts in the extent; its first byte stands at its phase behind that.
    pub fn run_start(&self, index: usize) -> u64 {
        self.runs[..index].iter().map(Run::aligned_len).sum()
    }
}

/// The block behind a lease on a copy tier, as one run of the tier's file: what a read asks for.
pub fn stored_spec(stored: &ReadLease) -> BlockSpec {
    image_spec(stored, stored.extent().0)
}

/// The image of the leased block, had it stood at `start` of file 0: the same parts, one run.
pub(crate) fn image_spec(lease: &ReadLease, start: u64) -> BlockSpec {
    let parts: SmallVec<[PartSpec; 8]> = (0..lease.parts())
        .map(|index| lease.part_range(index))
        .map(|range| PartSpec {
            run: 0,
            offset: range.offset,
            len: range.len,
        })
        .collect();
    let len = parts.iter().map(|part| part.offset + part.len).max();
    let run = Run {
        file: 0,
        offset: start,
        len: len.expect("a block has a part"),
    };
    let runs = SmallVec::from_slice(&[run]);
    BlockSpec { runs, parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u64, len: u64) -> Run {
        Run {
            file: 0,
            offset,
            len,
        }
    }

    #[test]
    fn neighbours_share_a_run_and_keep_the_part_order() {
        let spec = BlockSpec::from_ranges(&[range(10_000, 500), range(100, 200), range(310, 90)]);
        assert_eq!(spec.runs.as_slice(), &[range(100, 300), range(10_000, 500)]);
        let parts: Vec<_> = spec
            .parts
            .iter()
            .map(|p| (p.run, p.offset, p.len))
            .collect();
        assert_eq!(parts, [(1, 0, 500), (0, 0, 200), (0, 210, 90)]);
        assert_eq!(spec.data_bytes(), 790);
        assert_eq!(spec.extent_bytes(), 4096 + 4096);
    }

    #[test]
    fn a_run_over_a_page_border_takes_both_pages() {
        let run = range(4000, 200);
        assert_eq!(
            (run.aligned_offset(), run.phase(), run.aligned_len()),
            (0, 4000, 8192)
        );
    }
}
