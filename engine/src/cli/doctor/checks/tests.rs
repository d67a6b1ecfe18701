//! Each line says what is missing and what to type; nothing here depends on the host.

use super::super::State;
use super::*;
use std::io::{Error, ErrorKind};

fn memory() -> Memory {
    Memory {
        total_bytes: 8 << 30,
        machine_free_bytes: 4 << 30,
        free_bytes: 4 << 30,
        memlock_bytes: u64::MAX,
        huge_pages: 0,
        huge_pages_free: 0,
        transparent: Some("madvise".to_owned()),
    }
}

fn nobody() -> Privileges {
    let folder = tempfile::tempdir().expect("temp folder");
    Privileges::read(&HostTree::below(folder.path()))
}

fn next(check: &Check) -> &str {
    assert_eq!(check.state, State::Lacks, "{check:?}");
    check.next.as_deref().expect("something to do")
}

#[test]
fn memory_says_which_limit_is_tight() {
    let free = memory();
    assert!(limit(&free).found.contains("no tighter cgroup"));
    let tight = Memory {
        free_bytes: 1 << 30,
        ..memory()
    };
    assert!(limit(&tight).found.contains("cgroup leaves 1.0 GiB"));
    let locked = Memory {
        memlock_bytes: 8 << 20,
        ..memory()
    };
    assert!(next(&memlock(&locked, &nobody())).contains("ulimit -l"));
    assert_eq!(memlock(&memory(), &nobody()).state, State::Ok);
    assert!(next(&hugepages(&free)).contains("vm.nr_hugepages=1024"));
    let never = Memory {
        transparent: Some("never".to_owned()),
        ..memory()
    };
    assert!(next(&super::transparent(&never)).contains("madvise"));
    assert_eq!(super::transparent(&free).state, State::Ok);
}

#[test]
fn a_refused_ring_names_who_refuses() {
    let folder = tempfile::tempdir().expect("temp folder");
    let tree = HostTree::below(folder.path());
    let refused = || Err(Error::from(ErrorKind::PermissionDenied));
    let proc = folder.path().join("proc");
    std::fs::create_dir_all(proc.join("sys/kernel")).expect("made");
    std::fs::create_dir_all(proc.join("self")).expect("made");
    assert!(next(&io_uring(&tree, refused())).contains("CONFIG_IO_URING"));
    std::fs::write(proc.join("self/status"), "Seccomp:\t2\n").expect("written");
    assert!(next(&io_uring(&tree, refused())).contains("seccomp"));
    std::fs::write(proc.join("sys/kernel/io_uring_disabled"), "2\n").expect("written");
    assert!(next(&io_uring(&tree, refused())).contains("io_uring_disabled=0"));
    assert_eq!(io_uring(&tree, Ok(())).state, State::Ok);
    assert!(next(&btf(&tree)).contains("CONFIG_DEBUG_INFO_BTF"));
}

#[test]
fn probes_say_what_they_lack() {
    let path = || "/sys/fs/bpf/larder".into();
    let check = bpf(Err(StartError::NoBpfFs { path: path() }));
    assert!(next(&check).contains("mount -t bpf"), "{check:?}");
    let missing = "cap_bpf".to_owned();
    let check = bpf(Err(StartError::Privilege { missing }));
    assert!(next(&check).contains("run as root"), "{check:?}");
    let ready = |taken: Vec<&'static str>, is_pinned| {
        Ok(Ready {
            taken,
            refused: vec!["uprobe"],
            is_pinned,
        })
    };
    assert!(bpf(ready(vec!["perf"], true)).found.contains("probes run"));
    let found = bpf(ready(vec!["perf"], false)).found;
    assert!(found.contains("perf, not uprobe"), "{found}");
    assert_eq!(bpf(ready(Vec::new(), false)).state, State::Lacks);
}

#[test]
fn devices_that_are_half_there_are_told_from_none() {
    let groups = |groups, has_vfio| super::iommu(Iommu { groups, has_vfio }, "GenuineIntel");
    assert!(next(&groups(0, false)).contains("intel_iommu=on"));
    assert!(next(&groups(3, false)).contains("modprobe"));
    assert_eq!(groups(3, true).state, State::Ok);
    let mut memory = Cxl::default();
    assert!(next(&cxl(&memory)).contains("cxl list"));
    memory.memdevs = vec!["mem0".to_owned()];
    assert!(next(&cxl(&memory)).contains("create-region"));
    memory.nodes = vec![2];
    assert!(cxl(&memory).found.contains("node2"));
    let device = |state: &str| Rdma {
        name: "mlx5_0".to_owned(),
        state: state.to_owned(),
        rate: "100 Gb/sec".to_owned(),
    };
    assert!(next(&rdma(&[])).contains("rxe"));
    assert!(next(&rdma(&[device("DOWN")])).contains("rdma link"));
    assert_eq!(rdma(&[device("ACTIVE")]).state, State::Ok);
    let card = |driver: Option<&str>, library| {
        gpu(&Gpu {
            devices: vec!["0000:01:00.0".to_owned()],
            driver: driver.map(str::to_owned),
            library,
        })
    };
    let no = || Err("no such file".to_owned());
    assert!(next(&card(None, no())).contains("nvidia-smi"));
    assert!(next(&card(Some("570.1"), no())).contains("libcuda.so.1"));
    assert_eq!(card(Some("570.1"), Ok(())).state, State::Ok);
}

#[test]
fn this_host_has_a_line_for_everything() {
    let checks = all(&HostTree::this());
    assert_eq!(checks.len(), 17);
    for check in checks {
        assert!(!check.found.is_empty() && check.state != State::Fails);
        assert_eq!(check.state == State::Lacks, check.next.is_some());
    }
}
