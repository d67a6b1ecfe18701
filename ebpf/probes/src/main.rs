//! Programs in the kernel: they count into maps and decide nothing.
//!
//! One hook per file. A program named `larder_x` is the best form of a probe, `larder_x_tp` or
//! `larder_x_pe` what stands in where the kernel lacks that: the loader loads one of them.
//! Everything here runs between two instructions of somebody else, so: no event per access, loops
//! with constant bounds, and what cannot be counted adds to `drops`.
//!
//! Modules in reading order; each may use those above it, never those below. On other targets than
//! BPF this is an empty program.
//!
//! UNSAFETY: map values are raw pointers that the kernel's verifier has checked, and records of
//! tracepoints are read at offsets that the loader found.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(unsafe_code, reason = "map values and kernel records, see UNSAFETY")]

#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(target_arch = "bpf")]
mod kernel;

#[cfg(target_arch = "bpf")]
mod count;

#[cfg(target_arch = "bpf")]
mod block_rq;
#[cfg(target_arch = "bpf")]
mod block_touch;
#[cfg(target_arch = "bpf")]
mod cxl;
#[cfg(target_arch = "bpf")]
mod damon_aggregated;
#[cfg(target_arch = "bpf")]
mod mm_migrate_pages;
#[cfg(target_arch = "bpf")]
mod mm_vmscan_reclaim;
#[cfg(target_arch = "bpf")]
mod page_fault_user;
#[cfg(target_arch = "bpf")]
mod perf_sample;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

// The helpers that read kernel memory are for programs under the GPL; the probes are under both.
// SAFETY: the loader reads the section by name; no other object defines this symbol.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
