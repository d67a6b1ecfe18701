//! The store: tiers, paths, mover and placement policy. Knows no models and no kernels.
//!
//! A block is registered with where its bytes stand; a want names a block, a target extent and a
//! class; the mover brings the bytes over a path, checks them and publishes the block's slot;
//! readers pin it. All memory and all kernel interfaces are `larder-sys`'s.
//!
//! Modules in reading order; each may use those above it, never those below.
#![forbid(unsafe_code)]

pub use larder_sys as sys;

mod sync;

pub mod units;

pub mod clock;
pub mod turns;

pub mod backoff;

pub mod crc;

pub mod block;
pub mod checksum;
pub mod limit;
pub mod policy;
pub mod source;
pub mod table;

pub mod device;

pub mod transfer;

pub mod path;

pub mod sim;

pub mod mover;

pub mod spill;
pub mod wire;

pub mod node;
pub mod remote;
