//! Where the running kernel keeps what the probes read: byte offsets that the loader finds and
//! freezes before the programs are verified. A program whose offsets are missing is not loaded.

use crate::plain::plain;

plain! {
    /// Fields with `at_` are of records of classic tracepoints, the others of kernel structs.
    pub struct Offsets {
        pub request_q: u32,
        pub request_queue_disk: u32,
        pub gendisk_major: u32,
        pub gendisk_first_minor: u32,
        pub damon_region_start: u32,
        pub damon_region_end: u32,
        pub damon_region_nr_accesses: u32,
        pub at_fault_address: u32,
        pub at_damon_start: u32,
        pub at_damon_end: u32,
        pub at_damon_nr_accesses: u32,
        pub at_migrate_succeeded: u32,
        pub at_migrate_failed: u32,
        pub at_reclaim_nr_reclaimed: u32,
        pub at_issue_dev: u32,
        pub at_issue_sector: u32,
        pub at_complete_dev: u32,
        pub at_complete_sector: u32,
        pub at_complete_error: u32,
        pub at_poison_dpa: u32,
        pub at_poison_hpa: u32,
        pub at_media_dpa: u32,
        pub at_media_hpa: u32,
        pub at_dram_dpa: u32,
        pub at_dram_hpa: u32,
        pub reserved: u32,
    }
}
