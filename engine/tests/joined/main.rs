//! The joined path from outside: memory nodes, models that only they have, a spill folder, and the
//! smallest budget that works, while nodes fail. The ids are those of a free run, always.
//!
//! As root every node has a network namespace of its own; an ordinary user has loopback.
#![forbid(unsafe_code)]

#[path = "../own_mounts/mod.rs"]
mod own_mounts;

mod files;
mod forwarder;
mod namespaces;
mod ground;
mod engine;
mod trial;

mod models;
mod shaken;
mod pressed;
mod in_place;
mod bad_use;
mod faults;
mod warm;
mod cost;
