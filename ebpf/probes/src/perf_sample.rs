//! Samples of a performance event with the address of the data: loads where the processor tells
//! it, page faults elsewhere.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_perf_event_data;
use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;
use larder_abi::RANGE_VIRTUAL;

use crate::count::{add, count_filtered, entry, is_wanted, locate, settings, tgid, tier_stats};

#[perf_event]
fn larder_sample(context: PerfEventContext) -> u32 {
    // SAFETY: the context of this program type is this struct; the verifier checks the access.
    let address = unsafe { (*context.as_ptr().cast::<bpf_perf_event_data>()).addr };
    let tgid = tgid();
    let place = if is_wanted(tgid) {
        locate(RANGE_VIRTUAL, tgid, address)
    } else {
        None
    };
    let Some(place) = place else {
        count_filtered();
        return 0;
    };
    let weight = settings().map_or(1, |settings| u64::from(settings.sample_period));
    if let Some(entry) = entry(place) {
        // SAFETY: `entry` points to a whole entry of a map.
        add(unsafe { &raw mut (*entry).samples }, weight);
    }
    if let Some(stats) = tier_stats(place.tier) {
        stats.samples += weight;
    }
    0
}
