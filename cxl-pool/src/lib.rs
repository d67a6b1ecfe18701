//! The store: tiers, paths, mover and placement policy. Knows no models and no kernels.
//!
//! Modules in reading order; each may use those above it, never those below.
#![forbid(unsafe_code)]

pub mod units;

pub mod block;
