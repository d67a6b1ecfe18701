//! What stands in the BPF maps, in the words of both sides: the probes in the kernel and the
//! loader, the engines and the tests outside.
//!
//! Every type is `repr(C)` without padding, made of `u32` and `u64` only, so that a map can be read
//! and written as bytes and `bpftool` prints it with its field names. A change of any of them is a
//! change of [`VERSION`], which stands in the map `settings`.
//!
//! Modules in reading order; each may use those above it, never those below.
#![no_std]
#![forbid(unsafe_code)]

mod plain;

mod event;
mod heat;
mod io;
mod offsets;
mod region;
mod settings;
mod tier;

pub use event::{EVENT_MEDIA_ERROR, EVENT_POISON, EVENT_STALL, Event};
pub use heat::HeatEntry;
pub use io::{IO_BUCKETS, IoLatency};
pub use offsets::Offsets;
pub use plain::Plain;
pub use region::{RANGE_PHYSICAL, RANGE_VIRTUAL, RANGES, Range, Region};
pub use settings::{SETTINGS_BYTES, Settings};
pub use tier::{
    TIER_CXL, TIER_DRAM, TIER_HBM, TIER_NVME, TIER_ORIGIN, TIER_OTHER, TIER_REMOTE, TIER_VFIO,
    TIERS, TierStats,
};

/// Version of all layouts here, and of what the fields mean.
pub const VERSION: u32 = 1;

/// Heat arrays, named `block_heat_0` and on: as many engines can run at once on a host.
pub const HEAT_ARRAYS: u32 = 8;

/// Entries of a heat array unless the loader is told another number.
pub const HEAT_ENTRIES: u32 = 16_384;
