//! `exceptions:page_fault_user`: first touches of pages inside registered regions.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_perf_event_data;
use aya_ebpf::macros::{btf_tracepoint, perf_event, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, PerfEventContext, TracePointContext};
use larder_abi::RANGE_VIRTUAL;

use crate::count::{add, count_filtered, entry, is_wanted, locate, tgid, tier_stats};
use crate::kernel::record;
use crate::maps::OFFSETS;

/// Arguments: address, registers, error code.
#[btf_tracepoint(function = "page_fault_user")]
fn larder_fault(context: BtfTracePointContext) -> i32 {
    count(context.arg(0));
    0
}

/// The software event of page faults, one sample per fault.
#[perf_event]
fn larder_fault_pe(context: PerfEventContext) -> u32 {
    // SAFETY: the context of this program type is this struct; the verifier checks the access.
    count(unsafe { (*context.as_ptr().cast::<bpf_perf_event_data>()).addr });
    0
}

#[tracepoint]
fn larder_fault_tp(context: TracePointContext) -> u32 {
    count(record(&context, OFFSETS.load().at_fault_address));
    0
}

#[inline(always)]
fn count(address: u64) {
    let tgid = tgid();
    let place = if is_wanted(tgid) {
        locate(RANGE_VIRTUAL, tgid, address)
    } else {
        None
    };
    let Some(place) = place else {
        count_filtered();
        return;
    };
    if let Some(entry) = entry(place) {
        // SAFETY: `entry` points to a whole entry of a map.
        add(unsafe { &raw mut (*entry).faults }, 1);
    }
    if let Some(stats) = tier_stats(place.tier) {
        stats.faults += 1;
    }
}
