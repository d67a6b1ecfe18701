//! `block:block_rq_issue` and `block_rq_complete`: latency of block devices.

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use larder_abi::{IO_BUCKETS, IoLatency, TIER_NVME};

use crate::count::{add, count_drop, now_ns, tier_stats};
use crate::kernel::{field, record};
use crate::maps::{IO_LATENCY, OFFSETS, STARTED_NS};

/// In read-only data, because a copy on the stack would take half of it.
// SAFETY: no other object defines this symbol. A mangled name would differ between machines.
#[unsafe(no_mangle)]
static EMPTY_LATENCY: IoLatency = IoLatency {
    ios: 0,
    errors: 0,
    nanos: 0,
    buckets: [0; IO_BUCKETS as usize],
};

/// Argument: the request, whose address is the key until it is complete.
#[btf_tracepoint(function = "block_rq_issue")]
fn larder_io_issue(context: BtfTracePointContext) -> i32 {
    issue(context.arg(0));
    0
}

/// Arguments: request, status, bytes.
#[btf_tracepoint(function = "block_rq_complete")]
fn larder_io(context: BtfTracePointContext) -> i32 {
    let offsets = OFFSETS.load();
    let request: *const u8 = context.arg(0);
    let queue: *const u8 = field(request, offsets.request_q);
    let disk: *const u8 = field(queue, offsets.request_queue_disk);
    let major: u32 = field(disk, offsets.gendisk_major);
    let minor: u32 = field(disk, offsets.gendisk_first_minor);
    complete(
        context.arg(0),
        major << 20 | minor,
        context.arg::<u32>(1) != 0,
    );
    0
}

#[tracepoint]
fn larder_issue_tp(context: TracePointContext) -> u32 {
    let offsets = OFFSETS.load();
    let device: u32 = record(&context, offsets.at_issue_dev);
    issue(key(device, record(&context, offsets.at_issue_sector)));
    0
}

#[tracepoint]
fn larder_io_tp(context: TracePointContext) -> u32 {
    let offsets = OFFSETS.load();
    let device: u32 = record(&context, offsets.at_complete_dev);
    let sector = record(&context, offsets.at_complete_sector);
    let error: u32 = record(&context, offsets.at_complete_error);
    complete(key(device, sector), device, error != 0);
    0
}

/// A request by its place; the high bit keeps it apart from threads.
#[inline(always)]
fn key(device: u32, sector: u64) -> u64 {
    1 << 63 | u64::from(device) << 40 ^ sector
}

#[inline(always)]
fn issue(request: u64) {
    if STARTED_NS.insert(&request, &now_ns(), 0).is_err() {
        count_drop();
    }
}

#[inline(always)]
fn complete(request: u64, device: u32, is_error: bool) {
    let Some(started) = STARTED_NS.get_ptr(&request) else {
        return;
    };
    // SAFETY: the lookup gave a pointer to a whole value.
    let nanos = now_ns().saturating_sub(unsafe { *started });
    let _gone = STARTED_NS.remove(&request);
    let Some(latency) = latency_of(device) else {
        count_drop();
        return;
    };
    // SAFETY: `latency` points to a whole value; the bucket is masked below their number.
    unsafe {
        add(&raw mut (*latency).ios, 1);
        add(&raw mut (*latency).nanos, nanos);
        if is_error {
            add(&raw mut (*latency).errors, 1);
        }
        let bucket = (bucket(nanos) & (IO_BUCKETS - 1)) as usize;
        add((&raw mut (*latency).buckets).cast::<u64>().add(bucket), 1);
    }
    if let Some(stats) = tier_stats(TIER_NVME) {
        stats.ios += 1;
    }
}

/// The device's histogram, made at its first request.
#[inline(always)]
fn latency_of(device: u32) -> Option<*mut IoLatency> {
    if let Some(found) = IO_LATENCY.get_ptr_mut(&device) {
        return Some(found);
    }
    // Another processor may be first: then this does nothing and the lookup finds its value.
    const NEW_ONLY: u64 = 1;
    let _made = IO_LATENCY.insert(&device, &EMPTY_LATENCY, NEW_ONLY);
    IO_LATENCY.get_ptr_mut(&device)
}

/// Whole part of the logarithm to the base 2, at most the last bucket.
#[inline(always)]
fn bucket(nanos: u64) -> u32 {
    let mut rest = nanos;
    let mut bucket = 0;
    let mut step = 5;
    while step > 0 {
        step -= 1;
        let width = 1 << step;
        if rest >> width != 0 {
            rest >>= width;
            bucket += width;
        }
    }
    if nanos >> IO_BUCKETS != 0 {
        IO_BUCKETS - 1
    } else {
        bucket
    }
}
