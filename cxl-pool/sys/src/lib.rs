//! The operating system under larder, each facility in a module of its own.
//!
//! Two things live here: memory that several parties use at once (spaces, slots, leases), so that
//! no crate above ever makes a slice from an address, and the doors to the kernel (mappings,
//! futex, files, io_uring, BPF). Only owning, safe types leave this crate.
//!
//! Modules in reading order; each may use those above it, never those below.
//!
//! UNSAFETY: memory mappings, futex, io_uring and BPF are raw kernel interfaces, and leases hand
//! out slices of memory that the kernel or another thread has written before.
#![expect(
    unsafe_code,
    reason = "raw kernel interfaces and shared memory, see UNSAFETY"
)]

mod sync;

pub mod bpf;
pub mod cached;
pub mod futex;
pub mod library;
pub mod limits;
pub mod lock;
pub mod mapping;
pub mod newfile;
pub mod numa;
pub mod random;
pub mod ring;
pub mod signals;
pub mod space;
pub mod usdt;
mod wake;

pub mod slot;

pub mod lease;

pub mod file;
pub mod io;

pub mod pread;
pub mod uring;

pub mod driver;

pub mod net;
pub mod tierfile;
