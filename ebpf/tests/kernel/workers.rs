//! Tests that other tests run as processes of their own, perhaps as other users. Started by
//! themselves they find no place to work and pass.

use larder_ebpf::{Claim, ClaimError, Heat, HeatArray, Pins, StartError, start};

use crate::bench::Bench;

/// File in the working folder that names the pins.
pub(crate) const PLACE: &str = "larder-place";

/// First word of the manifest that workers know.
pub(crate) const MANIFEST: u64 = 0x6c61_7264_6572;
/// Block, and uses of it, that the marking worker tells.
pub(crate) const MARKED: (u64, u64) = (103, 5);
/// Touches of entry 1 that the dying worker leaves behind.
pub(crate) const LEFT: u64 = 41;

pub(crate) fn claim() -> Claim {
    Claim {
        manifest: [MANIFEST, 0, 0, 0],
        block_first: 100,
        block_count: 16,
        ranges: Vec::new(),
    }
}

/// File in the working folder that names a memory cgroup, and the limit of that.
pub(crate) const GROUP_FILE: &str = "larder-cgroup";
pub(crate) const GROUP_BYTES: u64 = 24 << 20;

fn place() -> Option<Pins> {
    std::fs::read_to_string(PLACE).ok().map(Pins::new)
}

#[test]
fn marks_blocks() {
    if place().is_some() {
        let array = HeatArray::private(&claim());
        array.touch((MARKED.0 - claim().block_first) as usize, MARKED.1);
    }
}

#[test]
fn claims_and_dies() {
    let Some(pins) = place() else { return };
    let array = HeatArray::claim(&pins, &claim()).expect("an array");
    array.touch(1, LEFT);
    // As after a signal: nothing is dropped.
    std::mem::forget(array);
}

#[test]
fn claims_adds_and_reads() {
    let Some(pins) = place() else { return };
    let array = HeatArray::claim(&pins, &claim()).expect("an array");
    array.touch(2, 7);
    assert_eq!(array.get(2).touches, 7);
    let heat = Heat::open(&pins).expect("the group may read");
    let entries = heat
        .entries(array.array().expect("a pinned one"))
        .expect("the group may read");
    assert_eq!(entries[2].touches, 7);
    heat.tiers().expect("the group may read");
    // What it only reads, it cannot write; and events have one reader.
    for name in ["settings", "tier_stats", "io_latency", "events"] {
        let path = pins.root().join(name);
        let refused = larder_sys::bpf::Map::open(&path, larder_sys::bpf::Access::ReadWrite);
        assert_eq!(refused.err(), Some(nix::errno::Errno::EACCES), "{name}");
    }
    assert!(std::fs::remove_file(pins.root().join("regions")).is_err());
}

#[test]
fn is_let_nowhere() {
    let Some(pins) = place() else { return };
    let refused = HeatArray::claim(&pins, &claim()).expect_err("not in the group");
    assert!(matches!(refused, ClaimError::Read(_)), "{refused}");
    assert!(
        refused.to_string().contains("not allowed; join the group"),
        "{refused}"
    );
}

#[test]
fn is_in_a_pid_namespace() {
    let Some(pins) = place() else { return };
    let refused = HeatArray::claim(&pins, &claim()).expect_err("numbers mean nothing here");
    assert!(matches!(refused, ClaimError::PidNamespace), "{refused}");
}

#[test]
fn starts_without_privileges() {
    let Some(pins) = place() else { return };
    let options = larder_ebpf::Options {
        pins,
        ..larder_ebpf::Options::at(0)
    };
    let refused = start(&options).expect_err("no privileges");
    assert!(matches!(refused, StartError::Privilege { .. }), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("cap_bpf and cap_perfmon missing"),
        "{refused}"
    );
}

#[test]
fn starts_with_two_capabilities() {
    let Some(pins) = place() else { return };
    let options = larder_ebpf::Options {
        pins: pins.clone(),
        ..larder_ebpf::Options::at(0)
    };
    let report = start(&options).expect("cap_bpf and cap_perfmon are enough");
    assert!(
        crate::bench::is_attached(&report, "larder_fault"),
        "{report:?}"
    );
    assert!(
        crate::bench::is_attached(&report, "larder_io"),
        "{report:?}"
    );
    HeatArray::claim(&pins, &claim()).expect("the pins are its own");
    larder_ebpf::stop(&pins, larder_ebpf::Keep::Nothing).expect("the pins are its own");
}

/// More than the cgroup holds goes through the page cache, so the process frees pages itself.
#[test]
fn writes_more_than_its_cgroup_holds() {
    let Some(_) = place() else { return };
    let group = std::fs::read_to_string(GROUP_FILE).expect("written by the other side");
    let own = std::process::id().to_string();
    std::fs::write(std::path::Path::new(&group).join("cgroup.procs"), own).expect("root may");
    let mut file = tempfile::tempfile_in(crate::bench::disk_folder()).expect("a file on a disk");
    let piece = vec![7u8; 1 << 20];
    for _ in 0..(3 * GROUP_BYTES) >> 20 {
        std::io::Write::write_all(&mut file, &piece).expect("written");
    }
}

#[test]
fn workers_pass_when_nobody_runs_them() {
    Bench::run(|bench| assert!(bench.folder().is_dir()));
}
