//! What the probes are told.

use crate::plain::{Plain, plain};

plain! {
    /// The one entry of the map `settings`.
    pub struct Settings {
        /// `VERSION` of the side that made the maps; at this place in every version.
        pub version: u32,
        /// Count this process only; zero for every process with a region.
        pub only_tgid: u32,
        /// Count tasks below this cgroup only; zero for all.
        pub cgroup_id: u64,
        /// Depth of that cgroup, the root being 0.
        pub cgroup_level: u32,
        /// Events that one sample stands for.
        pub sample_period: u32,
        /// Reclaim that holds up a task longer is told as an event.
        pub stall_ns: u64,
        /// When the probes were started, in nanoseconds of the monotonic clock.
        pub started_ns: u64,
    }
}

/// Size of the settings; that of another version may be another.
pub const SETTINGS_BYTES: usize = <Settings as Plain>::BYTES;
