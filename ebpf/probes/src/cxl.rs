//! `cxl:cxl_poison`, `cxl_general_media` and `cxl_dram`: errors of CXL media.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use larder_abi::{EVENT_MEDIA_ERROR, EVENT_POISON, Event, RANGE_PHYSICAL, TIER_CXL};

use crate::count::{add, entry, locate, now_ns, tell, tgid, tier_stats};
use crate::kernel::record;
use crate::maps::OFFSETS;

#[tracepoint]
fn larder_cxl(context: TracePointContext) -> u32 {
    let offsets = OFFSETS.load();
    let hpa = record(&context, offsets.at_poison_hpa);
    count(EVENT_POISON, record(&context, offsets.at_poison_dpa), hpa);
    0
}

#[tracepoint]
fn larder_cxl_gm(context: TracePointContext) -> u32 {
    let offsets = OFFSETS.load();
    let hpa = record(&context, offsets.at_media_hpa);
    count(
        EVENT_MEDIA_ERROR,
        record(&context, offsets.at_media_dpa),
        hpa,
    );
    0
}

#[tracepoint]
fn larder_cxl_dram(context: TracePointContext) -> u32 {
    let offsets = OFFSETS.load();
    let hpa = record(&context, offsets.at_dram_hpa);
    count(
        EVENT_MEDIA_ERROR,
        record(&context, offsets.at_dram_dpa),
        hpa,
    );
    0
}

#[inline(always)]
fn count(kind: u32, dpa: u64, hpa: u64) {
    let place = locate(RANGE_PHYSICAL, 0, hpa);
    if let Some(entry) = place.and_then(entry) {
        // SAFETY: `entry` points to a whole entry of a map.
        add(unsafe { &raw mut (*entry).errors }, 1);
    }
    if let Some(stats) = tier_stats(TIER_CXL) {
        stats.media_errors += 1;
    }
    tell(Event {
        at_ns: now_ns(),
        kind,
        tgid: tgid(),
        address: hpa,
        detail: dpa,
        array: place.map_or(u32::MAX, |place| place.array),
        entry: place.map_or(u32::MAX, |place| place.entry),
    });
}
