//! Counters per tier.

use crate::plain::plain;

pub const TIER_HBM: u32 = 0;
pub const TIER_DRAM: u32 = 1;
pub const TIER_CXL: u32 = 2;
pub const TIER_REMOTE: u32 = 3;
pub const TIER_VFIO: u32 = 4;
pub const TIER_NVME: u32 = 5;
pub const TIER_ORIGIN: u32 = 6;
/// What belongs to no tier: the rest of the host.
pub const TIER_OTHER: u32 = 7;
/// Entries of the map `tier_stats`.
pub const TIERS: u32 = 8;

plain! {
    /// What the probes counted, one per tier and processor. Fields only grow.
    pub struct TierStats {
        /// Page faults inside registered ranges.
        pub faults: u64,
        pub samples: u64,
        /// Accesses by DAMON's count.
        pub accesses: u64,
        /// Marks of other processes.
        pub marks: u64,
        /// Events that belong to no region or that a filter kept out.
        pub filtered: u64,
        /// Events that were wanted and could not be counted or told.
        pub drops: u64,
        pub pages_migrated: u64,
        pub pages_not_migrated: u64,
        /// Times that a task had to free memory itself.
        pub reclaims: u64,
        pub pages_reclaimed: u64,
        pub reclaim_ns: u64,
        /// Requests that block devices completed.
        pub ios: u64,
        pub media_errors: u64,
    }
}
