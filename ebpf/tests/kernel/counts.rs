//! What the probes count is what happened.

use std::io::Write;
use std::time::{Duration, Instant};

use aya::programs::Program;
use larder_abi::{
    EVENT_POISON, Offsets, Plain, RANGE_PHYSICAL, RANGE_VIRTUAL, TIER_CXL, TIER_DRAM, TIER_NVME,
};
use larder_ebpf::{
    Claim, DeviceLatency, Event, Events, Heat, HeatArray, HeatEntry, Options, Range, Report, status,
};

use crate::bench::{Bench, disk_folder, is_attached, mount_tracefs, start_with};
use crate::workers::{self, MARKED};

const PAGE: usize = 4096;
/// Four of them are more than an allocator keeps for reuse: they come from the kernel, untouched.
const BLOCK: usize = 2560 * PAGE;

/// Claims an array over `memory`, cut into blocks, as entries 3 and on.
fn claim_over(bench: &Bench, memory: &[u8], capacity: usize) -> HeatArray {
    let start = memory.as_ptr().addr() as u64;
    let claim = Claim {
        ranges: vec![Range {
            start,
            end: start + capacity as u64,
            block_bytes: BLOCK as u64,
            entry: 3,
            tier: TIER_DRAM,
            kind: RANGE_VIRTUAL,
            reserved: 0,
        }],
        ..workers::claim()
    };
    HeatArray::claim(&bench.pins, &claim).expect("an array")
}

/// Touches four blocks for the first time and returns what is known about entries 3 to 6.
fn touch_memory(bench: &Bench) -> Vec<HeatEntry> {
    let mut memory: Vec<u8> = Vec::with_capacity(4 * BLOCK + 2 * PAGE);
    let array = claim_over(bench, &memory, 4 * BLOCK);
    memory.resize(4 * BLOCK, 1);
    assert!(memory.iter().all(|byte| *byte == 1));
    (3..7).map(|entry| array.get(entry)).collect()
}

fn faults(entries: &[HeatEntry]) -> u64 {
    entries.iter().map(|entry| entry.faults).sum()
}

/// The hook that page faults are counted by.
fn fault_hook(report: &Report) -> Option<&str> {
    let mut attached = report.attached.iter();
    let found = attached.find(|attached| attached.probe == "larder_fault");
    found.map(|attached| attached.hooks[0].as_str())
}

#[test]
fn first_touches_are_counted_by_block() {
    Bench::run(|bench| {
        let Some(report) = bench.start() else { return };
        assert!(fault_hook(&report).is_some(), "{report:?}");
        let entries = touch_memory(bench);
        // Huge pages would need fewer faults; with small ones it is one per page.
        let found = faults(&entries);
        assert!((1..=4 * 2560 + 4).contains(&found), "{entries:?}");
        assert!(entries.iter().any(|entry| entry.seen_ns > 0));
        assert!(
            entries
                .iter()
                .all(|entry| entry.touches == 0 && entry.marks == 0)
        );
        let status = status(&bench.pins).expect("readable");
        assert!(status.tiers[TIER_DRAM as usize].faults >= found);
        assert_eq!(status.settings.version, larder_abi::VERSION);
        assert!(
            status
                .programs
                .iter()
                .any(|program| program.name.starts_with("larder_fault"))
        );
    });
}

#[test]
fn other_forms_stand_in_where_there_is_no_type_information() {
    Bench::run(|bench| {
        let options = Options {
            btf: "/nowhere".into(),
            ..bench.options()
        };
        let Some(report) = start_with(&options) else {
            return;
        };
        assert_eq!(fault_hook(&report), Some("perf page-faults"));
        assert!(faults(&touch_memory(bench)) > 0);
        let reclaim = report
            .skipped
            .iter()
            .find(|skip| skip.probe == "larder_reclaim");
        if let Some(skip) = reclaim {
            assert!(skip.reasons[0].contains("no type information"), "{skip:?}");
            assert!(skip.reasons[1].contains("mount -t tracefs"), "{skip:?}");
        }
    });
}

#[test]
fn tracepoints_stand_in_too() {
    Bench::run(|bench| {
        if let Err(reason) = mount_tracefs() {
            println!("skipped: {reason}");
            return;
        }
        let options = Options {
            btf: "/nowhere".into(),
            ..bench.options()
        };
        let Some(report) = start_with(&options) else {
            return;
        };
        for probe in [
            "larder_migrate",
            "larder_reclaim",
            "larder_io",
            "larder_damon",
        ] {
            let hooks = report
                .attached
                .iter()
                .find(|attached| attached.probe == probe);
            let reasons = report.skipped.iter().find(|skip| skip.probe == probe);
            match (hooks, reasons) {
                (Some(attached), _) => assert!(attached.hooks[0].starts_with("tracepoint ")),
                (None, Some(skip)) => {
                    assert!(skip.reasons[1].contains("no tracepoint"), "{skip:?}");
                }
                (None, None) => panic!("{probe} is neither attached nor skipped"),
            }
        }
        if is_attached(&report, "larder_io") {
            assert_io_is_counted(bench);
        }
    });
}

#[test]
fn other_processes_are_not_counted_when_one_is_chosen() {
    Bench::run(|bench| {
        let options = Options {
            only_tgid: Some(1),
            ..bench.options()
        };
        if start_with(&options).is_none() {
            return;
        }
        assert_eq!(faults(&touch_memory(bench)), 0);
        let tiers = Heat::open(&bench.pins)
            .and_then(|heat| heat.tiers())
            .expect("readable");
        assert!(tiers[larder_abi::TIER_OTHER as usize].filtered > 0);
    });
}

#[test]
fn tasks_outside_the_cgroup_are_not_counted() {
    Bench::run(|bench| {
        let trees = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(std::path::PathBuf::from);
        let mut trees = trees
            .into_iter()
            .filter(|tree| tree.join("cgroup.procs").exists());
        let Some(tree) = trees.next() else {
            println!("skipped: no cgroup tree of version 2");
            return;
        };
        let folder = tree.join(format!("larder-test-{}", std::process::id()));
        if let Err(error) = std::fs::create_dir(&folder) {
            println!("skipped: {}: {error}", folder.display());
            return;
        }
        let options = |cgroup: &std::path::Path| Options {
            cgroup: Some(cgroup.to_path_buf()),
            ..bench.options()
        };
        if start_with(&options(&folder)).is_some() {
            assert_eq!(faults(&touch_memory(bench)), 0);
            larder_ebpf::stop(&bench.pins, larder_ebpf::Keep::Nothing).expect("stopped");
            start_with(&options(&tree));
            assert!(
                faults(&touch_memory(bench)) > 0,
                "every task is below the root"
            );
        }
        std::fs::remove_dir(&folder).expect("an empty cgroup");
    });
}

#[test]
fn marks_of_other_processes_are_counted_and_those_of_the_owner_are_not() {
    Bench::run(|bench| {
        // The same file that the worker runs, by its inode.
        let options = Options {
            marked: Some(bench.folder().join("worker")),
            ..bench.options()
        };
        std::fs::copy("/proc/self/exe", bench.folder().join("worker")).expect("a copy");
        let Some(report) = start_with(&options) else {
            return;
        };
        if !is_attached(&report, "larder_touch") {
            println!("skipped: {:?}", report.skipped);
            return;
        }
        let array = HeatArray::claim(&bench.pins, &workers::claim()).expect("an array");
        bench.worker_passes("marks_blocks", 0, 0);
        let entry = (MARKED.0 - workers::claim().block_first) as usize;
        assert_eq!(array.get(entry).marks, MARKED.1);
        assert_eq!(array.get(entry).touches, 0);
    });
}

#[test]
fn physical_ranges_get_what_damon_counts() {
    Bench::run(|bench| {
        let state = std::fs::read_to_string("/sys/kernel/mm/damon/admin/kdamonds/0/state");
        if state.is_ok_and(|state| state.trim() != "on") || bench.start().is_none() {
            println!("skipped: no DAMON of this machine is running, and tests start none");
            return;
        }
        let range = Range {
            start: 0,
            end: 1 << 46,
            block_bytes: 1 << 42,
            kind: RANGE_PHYSICAL,
            tier: TIER_DRAM,
            ..Range::default()
        };
        let claim = Claim {
            ranges: vec![range],
            ..workers::claim()
        };
        let array = HeatArray::claim(&bench.pins, &claim).expect("an array");
        let begin = Instant::now();
        while array.get(0).accesses == 0 && begin.elapsed() < Duration::from_secs(10) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        if array.get(0).accesses == 0 {
            println!("skipped: DAMON has seen no access in ten seconds");
            return;
        }
        let tiers = Heat::open(&bench.pins)
            .and_then(|heat| heat.tiers())
            .expect("readable");
        assert!(tiers[TIER_DRAM as usize].accesses >= array.get(0).accesses);
    });
}

fn assert_io_is_counted(bench: &Bench) {
    let heat = Heat::open(&bench.pins).expect("readable");
    let count = |heat: &Heat| -> u64 {
        heat.latency()
            .expect("readable")
            .iter()
            .map(|device| device.latency.ios)
            .sum()
    };
    let before = count(&heat);
    let mut file = tempfile::tempfile_in(disk_folder()).expect("a file on a disk");
    for _ in 0..4 {
        file.write_all(&vec![7; 1 << 16]).expect("written");
        file.sync_all().expect("synced");
    }
    let devices = heat.latency().expect("readable");
    if devices.is_empty() {
        println!("skipped: {} is on no block device", disk_folder().display());
        return;
    }
    assert!(count(&heat) > before, "{devices:?}");
    for DeviceLatency {
        major,
        minor,
        latency,
    } in devices
    {
        let in_buckets: u64 = latency.buckets.iter().sum();
        assert!(
            in_buckets.abs_diff(latency.ios) <= 64,
            "{major}:{minor} {latency:?}"
        );
        let name = format!("/sys/dev/block/{major}:{minor}");
        assert!(std::path::Path::new(&name).exists(), "{name}");
        assert!(latency.nanos > 0);
    }
    let tiers = heat.tiers().expect("readable");
    assert!(tiers[TIER_NVME as usize].ios > 0);
}

#[test]
fn latency_of_devices_is_counted() {
    Bench::run(|bench| {
        let Some(report) = bench.start() else { return };
        if is_attached(&report, "larder_io") {
            assert_io_is_counted(bench);
        } else {
            println!("skipped: {:?}", report.skipped);
        }
    });
}

/// There is no CXL here, so its program hangs on page faults, whose record has an address too.
#[test]
fn media_errors_find_their_block_and_are_told() {
    Bench::run(|bench| {
        if let Err(reason) = mount_tracefs() {
            println!("skipped: {reason}");
            return;
        }
        if bench.start().is_none() {
            return;
        }
        let mut memory: Vec<u8> = Vec::with_capacity(4 * BLOCK);
        let start = memory.as_ptr().addr() as u64;
        let end = start + 4 * BLOCK as u64;
        let range = Range {
            start,
            end,
            block_bytes: BLOCK as u64,
            entry: 5,
            tier: TIER_CXL,
            kind: RANGE_PHYSICAL,
            reserved: 0,
        };
        let claim = Claim {
            ranges: vec![range],
            ..workers::claim()
        };
        let array = HeatArray::claim(&bench.pins, &claim).expect("an array");
        let Some(attached) = poison_by_page_faults(bench) else {
            return;
        };
        // Every fault of the machine is an error now: a few pages, before the ring is full.
        memory.resize(16 * PAGE, 1);
        drop(attached);
        let events: Vec<Event> = Events::open(&bench.pins).expect("root may").collect();
        let is_ours = |event: &&Event| (start..end).contains(&event.address);
        let Some(event) = events.iter().find(is_ours) else {
            panic!("none of {} events is of this memory", events.len());
        };
        assert_eq!((event.kind, event.entry), (EVENT_POISON, 5));
        assert_eq!(
            (Some(event.array), event.tgid),
            (array.array(), std::process::id())
        );
        assert!(event.at_ns > 0 && event.detail > 0);
        assert!(array.get(5).errors > 0);
        let tiers = Heat::open(&bench.pins)
            .and_then(|heat| heat.tiers())
            .expect("readable");
        assert!(tiers[TIER_CXL as usize].media_errors > 0);
        assert_eq!(
            Events::open(&bench.pins).expect("root may").count(),
            0,
            "read once"
        );
    });
}

/// Hangs the program of poison on page faults, over the maps that are pinned already, until what
/// it returns is dropped.
fn poison_by_page_faults(bench: &Bench) -> Option<aya::Ebpf> {
    let offsets = Offsets {
        at_poison_dpa: 16,
        at_poison_hpa: 8,
        ..Offsets::default()
    };
    let mut bytes = [0; <Offsets as Plain>::BYTES];
    offsets.put(&mut bytes);
    let names = [
        "regions",
        "events",
        "tier_stats",
        "settings",
        "block_heat_0",
        "block_heat_1",
    ];
    let paths = names.map(|name| bench.pins.root().join(name));
    let mut loader = aya::EbpfLoader::new();
    loader.override_global("OFFSETS", &bytes, true);
    for (name, path) in names.iter().zip(&paths) {
        loader.map_pin_path(name, path.as_path());
    }
    let object = include_bytes!("../../probes/larder.bpf.o").to_vec();
    let mut ebpf = loader.load(&object).expect("the committed object");
    let program = ebpf.program_mut("larder_cxl").expect("in the object");
    let program: &mut aya::programs::TracePoint = program.try_into().expect("of this kind");
    program.load().expect("verified");
    match program.attach("exceptions", "page_fault_user") {
        Ok(_) => Some(ebpf),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// Also of those that hang on what this kernel does not have.
#[test]
fn the_verifier_takes_every_program() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        let object = include_bytes!("../../probes/larder.bpf.o").to_vec();
        let mut ebpf = aya::EbpfLoader::new()
            .load(&object)
            .expect("the committed object");
        let mut loaded = 0;
        for (name, program) in ebpf.programs_mut() {
            let result = match program {
                Program::TracePoint(program) => program.load(),
                Program::PerfEvent(program) => program.load(),
                Program::UProbe(program) => program.load(),
                // They are verified against the hook, when they are started.
                _ => continue,
            };
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
            loaded += 1;
        }
        assert!(loaded >= 12, "{loaded}");
    });
}
