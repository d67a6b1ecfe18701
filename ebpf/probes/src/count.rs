//! What the programs share: filters, the way from an address to a block, and counting.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use aya_ebpf::helpers::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns,
};
use larder_abi::{
    Event, HEAT_ARRAYS, HeatEntry, RANGE_VIRTUAL, RANGES, Region, Settings, TIER_OTHER, TIERS,
    TierStats,
};

use crate::maps::{EVENTS, REGIONS, SETTINGS, TIER_STATS, heat};

/// A block by its array and entry.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) array: u32,
    pub(crate) entry: u32,
    pub(crate) tier: u32,
}

#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and has no conditions.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
pub(crate) fn tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Adds `by` to a field of a map entry that others add to as well.
#[inline(always)]
pub(crate) fn add(field: *mut u64, by: u64) {
    // SAFETY: callers point into a map entry that they looked up, where it is aligned; all sides
    // add atomically.
    unsafe { AtomicU64::from_ptr(field) }.fetch_add(by, Relaxed);
}

/// This processor's counters of `tier`, any number being one.
#[inline(always)]
pub(crate) fn tier_stats(tier: u32) -> Option<&'static mut TierStats> {
    let tier = if tier < TIERS { tier } else { TIER_OTHER };
    // SAFETY: the entry belongs to this processor, programs here do not nest, and a lost count
    // would be the worst of it.
    TIER_STATS
        .get_ptr_mut(tier)
        .map(|stats| unsafe { &mut *stats })
}

#[inline(always)]
pub(crate) fn count_filtered() {
    if let Some(stats) = tier_stats(TIER_OTHER) {
        stats.filtered += 1;
    }
}

#[inline(always)]
pub(crate) fn count_drop() {
    if let Some(stats) = tier_stats(TIER_OTHER) {
        stats.drops += 1;
    }
}

#[inline(always)]
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Whether the settings let events of the current task through.
#[inline(always)]
pub(crate) fn is_wanted(tgid: u32) -> bool {
    let Some(settings) = settings() else {
        return false;
    };
    if settings.only_tgid != 0 && settings.only_tgid != tgid {
        return false;
    }
    // SAFETY: the helper takes a number, and gives zero where there is no such ancestor.
    let ancestor = || unsafe { bpf_get_current_ancestor_cgroup_id(settings.cgroup_level as i32) };
    settings.cgroup_id == 0 || ancestor() == settings.cgroup_id
}

/// The region of heat array `array`, if somebody owns it.
#[inline(always)]
pub(crate) fn region(array: u32) -> Option<&'static Region> {
    let region = REGIONS.get(array)?;
    (region.owner_pid != 0).then_some(region)
}

/// Finds the block at `address`, which is the process's own or a physical one.
#[inline(always)]
pub(crate) fn locate(kind: u32, tgid: u32, address: u64) -> Option<Place> {
    let mut array = 0;
    while array < HEAT_ARRAYS {
        if let Some(region) = region(array) {
            if kind != RANGE_VIRTUAL || region.owner_pid == tgid {
                if let Some((entry, tier)) = within(region, kind, address) {
                    return Some(Place { array, entry, tier });
                }
            }
        }
        array += 1;
    }
    None
}

/// Entry and tier of the block at `address` in `region`.
#[inline(always)]
fn within(region: &Region, kind: u32, address: u64) -> Option<(u32, u32)> {
    let mut index = 0;
    while index < RANGES {
        let range = &region.ranges[index];
        // A range being rewritten at this moment gives a wrong entry or none; entries beyond the
        // array do not exist, so the lookup refuses them.
        let is_inside = range.kind == kind && address >= range.start && address < range.end;
        if is_inside && range.block_bytes != 0 {
            let blocks = (address - range.start) / range.block_bytes;
            return Some((range.entry.wrapping_add(blocks as u32), range.tier));
        }
        index += 1;
    }
    None
}

/// The entry of `place`, stamped with the time; a drop is counted where it does not exist.
#[inline(always)]
pub(crate) fn entry(place: Place) -> Option<*mut HeatEntry> {
    let Some(entry) = heat(place.array, place.entry) else {
        count_drop();
        return None;
    };
    // SAFETY: the lookup gave a pointer to a whole entry; the store is one aligned word.
    unsafe { (&raw mut (*entry).seen_ns).write_volatile(now_ns()) };
    Some(entry)
}

/// Tells a rare event; a full ring counts a drop.
#[inline(always)]
pub(crate) fn tell(event: Event) {
    match EVENTS.reserve(0) {
        Some(mut record) => {
            record.write(event);
            record.submit(0);
        }
        None => count_drop(),
    }
}
