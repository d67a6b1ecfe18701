//! The maps, under the names that they have in `/sys/fs/bpf/larder`.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use larder_abi::{
    Event, HEAT_ARRAYS, HEAT_ENTRIES, HeatEntry, IoLatency, Offsets, Region, Settings, TIERS,
    TierStats,
};

const MAPPED: usize = BPF_F_MMAPABLE as usize;

/// Block devices that have a histogram.
const DEVICES: usize = 64;

/// Requests and reclaims that are going on; the oldest are forgotten first.
const STARTED: usize = 16_384;

/// Room for about 1,600 events.
const EVENT_BYTES: usize = 1 << 16;

type HeatArray = Array<HeatEntry, { HEAT_ENTRIES as usize }, MAPPED>;

macro_rules! heat_arrays {
    ($($index:literal $variable:ident $name:literal,)*) => {
        $(
            #[btf_map(name = $name)]
            static $variable: HeatArray = HeatArray::new();
        )*

        /// Entry of heat array `array`.
        #[inline(always)]
        pub(crate) fn heat(array: u32, entry: u32) -> Option<*mut HeatEntry> {
            match array {
                $($index => $variable.get_ptr_mut(entry),)*
                _ => None,
            }
        }
    };
}

heat_arrays! {
    0 BLOCK_HEAT_0 "block_heat_0",
    1 BLOCK_HEAT_1 "block_heat_1",
    2 BLOCK_HEAT_2 "block_heat_2",
    3 BLOCK_HEAT_3 "block_heat_3",
    4 BLOCK_HEAT_4 "block_heat_4",
    5 BLOCK_HEAT_5 "block_heat_5",
    6 BLOCK_HEAT_6 "block_heat_6",
    7 BLOCK_HEAT_7 "block_heat_7",
}

const _: () = assert!(HEAT_ARRAYS == 8);

#[btf_map(name = "regions")]
pub(crate) static REGIONS: Array<Region, { HEAT_ARRAYS as usize }, MAPPED> = Array::new();

#[btf_map(name = "tier_stats")]
pub(crate) static TIER_STATS: PerCpuArray<TierStats, { TIERS as usize }> = PerCpuArray::new();

#[btf_map(name = "io_latency")]
pub(crate) static IO_LATENCY: HashMap<u32, IoLatency, DEVICES> = HashMap::new();

#[btf_map(name = "settings")]
pub(crate) static SETTINGS: Array<Settings, 1> = Array::new();

#[btf_map(name = "events")]
pub(crate) static EVENTS: RingBuf<Event, EVENT_BYTES> = RingBuf::new();

/// When a request (its address) or a reclaim (its thread) began.
#[btf_map(name = "started")]
pub(crate) static STARTED_NS: LruHashMap<u64, u64, STARTED> = LruHashMap::new();

/// Written by the loader before the programs are verified, frozen since.
// SAFETY: no other object defines this symbol.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Global<Offsets> = Global::new(NO_OFFSETS);

// SAFETY: `Offsets` is made of `u32` only, for which zero is a value.
const NO_OFFSETS: Offsets = unsafe { core::mem::zeroed() };
