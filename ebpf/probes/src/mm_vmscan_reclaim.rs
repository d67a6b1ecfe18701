//! `vmscan:mm_vmscan_direct_reclaim_begin` and `_end`, and the same of `mm_vmscan_memcg_reclaim`:
//! tasks that must free memory themselves, because the machine or their cgroup is full.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use larder_abi::{EVENT_STALL, Event, TIER_DRAM};

use crate::count::{
    count_drop, count_filtered, is_wanted, now_ns, settings, tell, tgid, tier_stats,
};
use crate::kernel::record;
use crate::maps::{OFFSETS, STARTED_NS};

#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_begin")]
fn larder_recl_beg(_context: BtfTracePointContext) -> i32 {
    begin();
    0
}

/// Argument: pages freed.
#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_end")]
fn larder_reclaim(context: BtfTracePointContext) -> i32 {
    end(context.arg(0));
    0
}

#[tracepoint]
fn larder_recb_tp(_context: TracePointContext) -> u32 {
    begin();
    0
}

#[tracepoint]
fn larder_recl_tp(context: TracePointContext) -> u32 {
    end(record(&context, OFFSETS.load().at_reclaim_nr_reclaimed));
    0
}

#[btf_tracepoint(function = "mm_vmscan_memcg_reclaim_begin")]
fn larder_memc_beg(_context: BtfTracePointContext) -> i32 {
    begin();
    0
}

/// Argument: pages freed.
#[btf_tracepoint(function = "mm_vmscan_memcg_reclaim_end")]
fn larder_memcg(context: BtfTracePointContext) -> i32 {
    end(context.arg(0));
    0
}

/// Threads are small numbers and requests are kernel addresses, so their keys never meet.
#[inline(always)]
fn begin() {
    if STARTED_NS
        .insert(&bpf_get_current_pid_tgid(), &now_ns(), 0)
        .is_err()
    {
        count_drop();
    }
}

#[inline(always)]
fn end(reclaimed: u64) {
    let thread = bpf_get_current_pid_tgid();
    let Some(started) = STARTED_NS.get_ptr(&thread) else {
        return;
    };
    // SAFETY: the lookup gave a pointer to a whole value.
    let nanos = now_ns().saturating_sub(unsafe { *started });
    let _gone = STARTED_NS.remove(&thread);
    if !is_wanted(tgid()) {
        count_filtered();
        return;
    }
    if let Some(stats) = tier_stats(TIER_DRAM) {
        stats.reclaims += 1;
        stats.pages_reclaimed += reclaimed;
        stats.reclaim_ns += nanos;
    }
    if settings().is_some_and(|settings| nanos >= settings.stall_ns) {
        tell(Event {
            at_ns: now_ns(),
            kind: EVENT_STALL,
            tgid: tgid(),
            address: u64::MAX,
            detail: nanos,
            array: u32::MAX,
            entry: u32::MAX,
        });
    }
}
