//! One entry per block: the touch table.

use crate::plain::plain;

plain! {
    /// What is known about the use of one block, one cache line.
    ///
    /// Every field but the last only grows, by relaxed atomic additions; the owner of the array may
    /// set any of them to any value, so readers take nothing for granted.
    pub struct HeatEntry {
        /// Uses by the owner of the array, which adds them itself.
        pub touches: u64,
        /// Uses by other processes, told by the mark `larder:block_touch`.
        pub marks: u64,
        /// First touches of pages of the block, seen as page faults.
        pub faults: u64,
        /// Sampled accesses to addresses of the block.
        pub samples: u64,
        /// Accesses that DAMON counted in regions that overlap the block.
        pub accesses: u64,
        /// Media errors reported inside the block.
        pub errors: u64,
        /// Of later use; zero.
        pub reserved: u64,
        /// When a probe last wrote the entry, in nanoseconds of the monotonic clock.
        pub seen_ns: u64,
    }
}
