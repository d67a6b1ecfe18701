//! `larder:block_touch`, a mark in processes that link larder and map no heat array.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use larder_abi::{HEAT_ARRAYS, TIER_OTHER};

use crate::count::{Place, add, count_filtered, entry, is_wanted, region, tgid, tier_stats};

/// Arguments: first word of the manifest's hash, block, uses.
#[uprobe]
fn larder_touch(context: ProbeContext) -> u32 {
    let (Some(manifest), Some(block), Some(uses)) = (
        context.arg::<u64>(0),
        context.arg::<u64>(1),
        context.arg::<u64>(2),
    ) else {
        return 0;
    };
    let tgid = tgid();
    let place = if is_wanted(tgid) {
        find(tgid, manifest, block)
    } else {
        None
    };
    let Some(place) = place else {
        count_filtered();
        return 0;
    };
    if let Some(entry) = entry(place) {
        // SAFETY: `entry` points to a whole entry of a map.
        add(unsafe { &raw mut (*entry).marks }, uses);
    }
    if let Some(stats) = tier_stats(place.tier) {
        stats.marks += uses;
    }
    0
}

/// The block in the array of its model, unless the process adds to that array itself.
#[inline(always)]
fn find(tgid: u32, manifest: u64, block: u64) -> Option<Place> {
    let mut array = 0;
    while array < HEAT_ARRAYS {
        if let Some(region) = region(array) {
            let index = block.wrapping_sub(region.block_first);
            let is_ours = region.manifest[0] == manifest && region.owner_pid != tgid;
            if is_ours && index < region.block_count {
                return Some(Place {
                    array,
                    entry: index as u32,
                    tier: TIER_OTHER,
                });
            }
        }
        array += 1;
    }
    None
}
