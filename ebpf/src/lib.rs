//! Heat through BPF: loads the probes, pins what they count into, and maps it.
//!
//! Three kinds of callers. `larder heat start|status|stop` calls [`start`], [`status`] and [`stop`]
//! with privileges and exits: the kernel keeps what is pinned. An engine calls [`HeatArray::claim`]
//! without any, as a member of the group that owns the pins, and adds touches to its own array.
//! Readers use [`Heat`] and can write nothing. Who follows a process that knows nothing of us
//! claims an array in its name ([`HeatArray::claim_for`]).
//!
//! This crate decides nothing about memory and knows no blocks but by number. The programs are in
//! `probes`, the layouts in `abi`.
//!
//! Modules in reading order; each may use those above it, never those below.
#![forbid(unsafe_code)]

mod error;

mod btf;
mod format;
mod local;
mod notes;
mod process;
mod privilege;

mod pins;
mod cgroup;
mod sample;
mod probe;
mod offsets;
mod ready;

mod attach;
mod stop;
mod start;

mod read;
mod disk;
mod status;
mod claim;

pub use claim::{Claim, HeatArray};
pub use disk::DiskLatency;
pub use error::{ClaimError, ReadError, StartError, StopError};
pub use larder_abi::{
    Event, HEAT_ARRAYS, HEAT_ENTRIES, HeatEntry, IoLatency, RANGE_VIRTUAL, RANGES, Range, Region,
    Settings, TIER_ORIGIN, TierStats,
};
pub use local::{group_id, monotonic_ns};
pub use pins::{DEFAULT_ROOT, Pins};
pub use process::started;
pub use read::{DeviceLatency, Events, Heat};
pub use ready::{Ready, ready};
pub use start::{Attached, Options, Report, Skipped, start};
pub use status::{ProgramStatus, RegionStatus, Status, status};
pub use stop::{Keep, Stopped, stop};
