//! The probes in the running kernel. Needs root; without it every test says so and is skipped.
//!
//! Each test has a bpf file system of its own, in a mount namespace of its own thread: when the
//! thread ends, everything that was pinned is gone, also after a failure.
#![forbid(unsafe_code)]

mod bench;

mod claims;
mod counts;
mod pressure;
mod refusals;
mod tools;
mod workers;
