//! `damon:damon_aggregated`: what DAMON counted in a region of physical memory, by whomever.

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use larder_abi::{HEAT_ARRAYS, RANGE_PHYSICAL, RANGES, Range};

use crate::count::{Place, add, count_drop, count_filtered, entry, region, tier_stats};
use crate::kernel::{field, record};
use crate::maps::OFFSETS;

/// Blocks that one region of DAMON may add to.
const BLOCKS_MAX: u32 = 64;

/// A region of DAMON.
#[derive(Clone, Copy)]
struct Aggregate {
    start: u64,
    end: u64,
    accesses: u64,
}

/// Arguments: index of the target, region, number of regions.
#[btf_tracepoint(function = "damon_aggregated")]
fn larder_damon(context: BtfTracePointContext) -> i32 {
    let offsets = OFFSETS.load();
    let region: *const u8 = context.arg(1);
    count(Aggregate {
        start: field(region, offsets.damon_region_start),
        end: field(region, offsets.damon_region_end),
        accesses: u64::from(field::<u32>(region, offsets.damon_region_nr_accesses)),
    });
    0
}

#[tracepoint]
fn larder_damon_tp(context: TracePointContext) -> u32 {
    let offsets = OFFSETS.load();
    count(Aggregate {
        start: record(&context, offsets.at_damon_start),
        end: record(&context, offsets.at_damon_end),
        accesses: u64::from(record::<u32>(&context, offsets.at_damon_nr_accesses)),
    });
    0
}

#[inline(always)]
fn count(aggregate: Aggregate) {
    if aggregate.accesses == 0 {
        return;
    }
    let mut is_inside = false;
    let mut array = 0;
    while array < HEAT_ARRAYS {
        if let Some(region) = region(array) {
            let mut index = 0;
            while index < RANGES {
                let range = &region.ranges[index];
                if range.kind == RANGE_PHYSICAL && overlap(range, aggregate) {
                    is_inside = true;
                    spread(array, range, aggregate);
                }
                index += 1;
            }
        }
        array += 1;
    }
    if !is_inside {
        count_filtered();
    }
}

#[inline(always)]
fn overlap(range: &Range, aggregate: Aggregate) -> bool {
    range.block_bytes != 0 && aggregate.start < range.end && aggregate.end > range.start
}

/// Adds to every block of `range` that the region touches.
// A function of its own: the verifier looks at its loop once and not once per range.
#[inline(never)]
fn spread(array: u32, range: &Range, aggregate: Aggregate) {
    let bytes = range.block_bytes;
    if bytes == 0 {
        return;
    }
    let start = aggregate.start.max(range.start);
    let end = aggregate.end.min(range.end);
    let first = (start - range.start) / bytes;
    let behind = (end - range.start).div_ceil(bytes);
    let mut step = 0;
    while step < BLOCKS_MAX {
        let block = first + u64::from(step);
        if block >= behind {
            break;
        }
        let entry_index = range.entry.wrapping_add(block as u32);
        let place = Place {
            array,
            entry: entry_index,
            tier: range.tier,
        };
        if let Some(entry) = entry(place) {
            // SAFETY: `entry` points to a whole entry of a map.
            add(unsafe { &raw mut (*entry).accesses }, aggregate.accesses);
        }
        step += 1;
    }
    if first + u64::from(BLOCKS_MAX) < behind {
        count_drop();
    }
    if let Some(stats) = tier_stats(range.tier) {
        stats.accesses += aggregate.accesses;
    }
}
