//! Latency of block devices.

use crate::plain::plain;

/// Buckets of a histogram.
pub const IO_BUCKETS: u32 = 32;

plain! {
    /// Time from issue to completion of a device's requests. The key is the device number as the
    /// kernel keeps it: major << 20 | minor.
    pub struct IoLatency {
        pub ios: u64,
        pub errors: u64,
        pub nanos: u64,
        /// Bucket `i` counts latencies from 2^i to 2^(i+1) nanoseconds; the last one all above.
        pub buckets: [u64; IO_BUCKETS as usize],
    }
}
