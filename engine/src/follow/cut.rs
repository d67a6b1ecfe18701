//! A file cut into blocks of equal size, and where they are in a process.

use larder_ebpf::{RANGE_VIRTUAL, RANGES, Range as HeatRange, TIER_ORIGIN};
use std::ops::Range;

/// Smallest block: as much as the kernel maps around one fault.
const BLOCK_LEAST: u64 = 64 << 10;

/// A piece of the file in the addresses of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) addresses: Range<u64>,
    /// Offset in the file of the first address.
    pub(crate) offset: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    file_bytes: u64,
    pub(crate) block_bytes: u64,
}

impl Cut {
    /// Cuts `file_bytes` into `most` blocks or fewer.
    pub(crate) fn new(file_bytes: u64, most: u64) -> Self {
        let fitting = file_bytes.div_ceil(most.max(1)).next_power_of_two();
        Self {
            file_bytes,
            block_bytes: fitting.max(BLOCK_LEAST),
        }
    }

    pub(crate) fn count(self) -> usize {
        self.file_bytes.div_ceil(self.block_bytes) as usize
    }

    /// Bytes of the file that `blocks` are.
    pub(crate) fn bytes(self, blocks: &Range<usize>) -> Range<u64> {
        let start = blocks.start as u64 * self.block_bytes;
        let end = blocks.end as u64 * self.block_bytes;
        start.min(self.file_bytes)..end.min(self.file_bytes)
    }

    /// The block of an offset in the file, if the file goes as far.
    pub(crate) fn block(self, offset: u64) -> Option<usize> {
        (offset < self.file_bytes).then_some((offset / self.block_bytes) as usize)
    }

    /// Where probes find the blocks, longest stretches first; and how many bytes found no room.
    pub(crate) fn heat_ranges(self, stretches: &[Stretch]) -> (Vec<HeatRange>, u64) {
        let mut longest: Vec<&Stretch> = stretches.iter().collect();
        longest.sort_by_key(|of| std::cmp::Reverse(of.addresses.end - of.addresses.start));
        let mut ranges = Vec::new();
        let mut lost = 0;
        for stretch in longest {
            let parts = self.parts(stretch);
            if ranges.len() + parts.len() <= RANGES {
                ranges.extend(parts);
            } else {
                lost += stretch.addresses.end - stretch.addresses.start;
            }
        }
        (ranges, lost)
    }

    /// A stretch that begins within a block has a range for that block and one for the rest.
    fn parts(self, stretch: &Stretch) -> Vec<HeatRange> {
        let Range { start, end } = stretch.addresses;
        let inside = stretch.offset % self.block_bytes;
        let head_end = match inside {
            0 => start,
            _ => end.min(start + (self.block_bytes - inside)),
        };
        let first = stretch.offset / self.block_bytes;
        let behind = first + u64::from(inside != 0);
        let parts = [(start..head_end, first), (head_end..end, behind)];
        let parts = parts
            .into_iter()
            .filter(|(addresses, _)| !addresses.is_empty());
        parts
            .map(|(addresses, entry)| HeatRange {
                start: addresses.start,
                end: addresses.end,
                block_bytes: self.block_bytes,
                entry: entry as u32,
                tier: TIER_ORIGIN,
                kind: RANGE_VIRTUAL,
                reserved: 0,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_small_as_the_count_allows() {
        for (bytes, most, block, count) in [
            (1, 16, 64 << 10, 1),
            (512 << 20, 16384, 64 << 10, 8192),
            (100 << 30, 16384, 8 << 20, 12800),
            ((64 << 10) + 1, 16, 64 << 10, 2),
        ] {
            let cut = Cut::new(bytes, most);
            assert_eq!((cut.block_bytes, cut.count()), (block, count), "{bytes}");
            assert_eq!(cut.bytes(&(0..count)), 0..bytes);
            assert_eq!(cut.block(bytes - 1), Some(count - 1));
            assert_eq!(cut.block(bytes), None);
        }
    }

    #[test]
    fn probes_find_each_block_by_its_address() {
        let cut = Cut::new(1 << 20, 16);
        let stretch = |start: u64, bytes: u64, offset: u64| Stretch {
            addresses: start..start + bytes,
            offset,
        };
        let entry = |ranges: &[HeatRange], address: u64| {
            let mut inside = ranges
                .iter()
                .filter(|range| (range.start..range.end).contains(&address));
            let range = inside.next().expect("a range");
            u64::from(range.entry) + (address - range.start) / range.block_bytes
        };
        let (ranges, lost) = cut.heat_ranges(&[
            stretch(0x10_0000, 0x4_0000, 0x2_0000),
            // Begins in the middle of block 8, and one that ends in the block where it begins.
            stretch(0x50_1000, 0x3_0000, 0x8_8000),
            stretch(0x90_0000, 0x1000, 0x1000),
        ]);
        assert_eq!((ranges.len(), lost), (4, 0));
        for (address, block) in [
            (0x10_0000, 2),
            (0x13_ffff, 5),
            (0x50_1000, 8),
            (0x50_8fff, 8),
            (0x50_9000, 9),
            (0x53_0fff, 11),
            (0x90_0fff, 0),
        ] {
            assert_eq!(entry(&ranges, address), block, "{address:x}");
        }
        let many: Vec<Stretch> = (1..=10)
            .map(|index| stretch(index << 24, index << 16, 0))
            .collect();
        let (ranges, lost) = cut.heat_ranges(&many);
        assert_eq!((ranges.len(), lost), (RANGES, 3 << 16), "the shortest");
    }
}
