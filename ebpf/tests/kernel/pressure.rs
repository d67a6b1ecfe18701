//! Tasks that must free memory are counted and told.

use std::path::{Path, PathBuf};

use larder_abi::{EVENT_STALL, TIER_DRAM};
use larder_ebpf::{Events, Heat, Options};

use crate::bench::{Bench, is_attached, start_with};
use crate::workers::{GROUP_BYTES, GROUP_FILE};

/// A memory cgroup of version 1 or 2, removed on drop.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self, String> {
        let name = format!("larder-test-{}", std::process::id());
        let trees = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        for (tree, limit) in trees {
            let folder = Path::new(tree).join(&name);
            if std::fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self(folder);
            if std::fs::write(group.0.join(limit), GROUP_BYTES.to_string()).is_ok() {
                return Ok(group);
            }
        }
        Err("no memory cgroup can be made here".to_owned())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty: its only process has ended. What fails here fails in the next test too.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn reclaim_of_a_full_cgroup_is_counted_and_told() {
    Bench::run(|bench| {
        let group = match Group::new() {
            Ok(group) => group,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        };
        let options = Options {
            stall_ns: 0,
            ..bench.options()
        };
        let Some(report) = start_with(&options) else {
            return;
        };
        if !is_attached(&report, "larder_memcg") {
            println!("skipped: {:?}", report.skipped);
            return;
        }
        let name = group.0.to_string_lossy().into_owned();
        std::fs::write(bench.folder().join(GROUP_FILE), name).expect("written");
        bench.worker_passes("writes_more_than_its_cgroup_holds", 0, 0);
        let heat = Heat::open(&bench.pins).expect("readable");
        let dram = heat.tiers().expect("readable")[TIER_DRAM as usize];
        assert!(dram.reclaims > 0 && dram.pages_reclaimed > 0, "{dram:?}");
        assert!(dram.reclaim_ns > 0);
        let mut events = Events::open(&bench.pins).expect("root may");
        let event = events
            .find(|event| event.kind == EVENT_STALL)
            .expect("told at once");
        assert!(event.detail > 0 && event.tgid != 0);
        assert_eq!((event.array, event.entry), (u32::MAX, u32::MAX));
    });
}
