//! Which heat array belongs to whom, and which addresses its blocks have.

use crate::plain::plain;

/// Address ranges of a region.
pub const RANGES: usize = 8;

/// Addresses are the owner's virtual ones.
pub const RANGE_VIRTUAL: u32 = 0;
/// Addresses are physical: DAX and CXL memory, as DAMON and media errors name it.
pub const RANGE_PHYSICAL: u32 = 1;

plain! {
    /// Addresses of consecutive blocks of equal size.
    pub struct Range {
        pub start: u64,
        /// First address behind; not above `start` where the range is unused.
        pub end: u64,
        /// Bytes of one block; zero turns the range off.
        pub block_bytes: u64,
        /// Entry of the array that belongs to the block at `start`.
        pub entry: u32,
        /// One of `TIER_`.
        pub tier: u32,
        /// One of `RANGE_`.
        pub kind: u32,
        pub reserved: u32,
    }
}

plain! {
    /// Claim on the heat array of the same index.
    ///
    /// The first eight bytes are the owner: a compare-and-swap of that word takes the array. The
    /// other fields are written by the owner only, `generation` being odd meanwhile.
    pub struct Region {
        /// Process that owns the array, zero if none does.
        pub owner_pid: u32,
        /// When it started, in clock ticks after boot, low half: a number is used again, the pair
        /// is not.
        pub owner_start: u32,
        pub generation: u64,
        /// Blake3 of the manifest that the blocks are of.
        pub manifest: [u64; 4],
        /// Block of the first entry.
        pub block_first: u64,
        /// Entries in use.
        pub block_count: u64,
        pub ranges: [Range; RANGES],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn the_owner_is_the_first_word() {
        assert_eq!(offset_of!(Region, owner_pid), 0);
        assert_eq!(offset_of!(Region, owner_start), 4);
        assert_eq!(offset_of!(Region, generation), 8);
        assert_eq!(offset_of!(Region, ranges), 64);
        assert_eq!(offset_of!(Range, kind), 32);
        assert_eq!((size_of::<Range>(), size_of::<Region>()), (40, 384));
    }
}
