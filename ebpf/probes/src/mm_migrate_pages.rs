//! `migrate:mm_migrate_pages`: pages that the kernel moved to other nodes, whoever asked for it.

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use larder_abi::TIER_DRAM;

use crate::count::tier_stats;
use crate::kernel::record;
use crate::maps::OFFSETS;

/// Arguments: pages moved, pages that could not be, and more that we leave.
#[btf_tracepoint(function = "mm_migrate_pages")]
fn larder_migrate(context: BtfTracePointContext) -> i32 {
    count(context.arg(0), context.arg(1));
    0
}

#[tracepoint]
fn larder_migrt_tp(context: TracePointContext) -> u32 {
    let offsets = OFFSETS.load();
    count(
        record(&context, offsets.at_migrate_succeeded),
        record(&context, offsets.at_migrate_failed),
    );
    0
}

#[inline(always)]
fn count(moved: u64, failed: u64) {
    if let Some(stats) = tier_stats(TIER_DRAM) {
        stats.pages_migrated += moved;
        stats.pages_not_migrated += failed;
    }
}
