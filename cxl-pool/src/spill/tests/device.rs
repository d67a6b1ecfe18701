//! The spill under a device: what the device computed comes back to it, and nobody else sees it.

use super::*;
use crate::device::SimDevice;
use crate::path::Bounce;
use std::sync::atomic::Ordering;

const LEN: u64 = 5_000_000;

fn content() -> Vec<u8> {
    (0..LEN as u32).map(|i| (i ^ (i >> 7)) as u8).collect()
}

#[test]
fn device_blocks_are_spilled_and_come_back() {
    let folder = tempfile::tempdir().expect("temp folder");
    let spill = Spill::open(folder.path(), SPILL_BYTES).expect("opens");
    let (hbm, key) = Space::device(Mapping::new(8 << 20).expect("memory"));
    let key = Arc::new(key);
    let device = SimDevice::start(Arc::clone(&key)).expect("a thread");
    let path = |name: &str| {
        let staging = Space::mapped(Mapping::new(4 << 20).expect("memory"));
        let mut parts = spill.path(name.to_owned(), &staging, None);
        parts.bounce = Some(Bounce::new(staging, Box::new(device.copier())));
        parts
    };
    let paths = vec![path("nvme>dram"), path("dram>nvme")];
    let mover = Mover::start(block_table(1), paths, Arc::new(RealClock::new())).expect("threads");
    let (id, table) = (BlockId::new(0), Arc::clone(mover.table()));
    let (fast, home) = (slot_of(id), home_slot(id, 0));

    let extent = hbm.alloc_low(LEN).expect("room");
    let mut tail = table.begin_append(fast, extent).expect("absent");
    tail.device_bytes_mut(&key)[..LEN as usize].copy_from_slice(&content());
    tail.publish(LEN);
    for _ in 0..3 {
        let store = Store {
            block: id,
            from: table.pin(fast).expect("ready"),
            slot: home,
            class: Class::Demote,
            due: 0,
        };
        let target = spill.space().alloc_low(LEN).expect("room");
        assert!(mover.store(WRITE, store, target).is_ok());
        drop(mover.wait(home).expect("written"));
        drop(table.evict(fast).expect("the store let its source go"));
        let pinned = table.pin(home).expect("ready");
        let spec = Arc::new(stored_spec(&pinned));
        let request = Request {
            block: id,
            slot: fast,
            spec,
            class: Class::Demand,
            due: 0,
            is_checked: true,
            pinned: Some(pinned),
        };
        let extent = hbm.alloc_low(LEN).expect("room");
        assert!(mover.want(READ, request, extent).is_ok());
        let lease = mover.wait(fast).expect("read");
        assert!(lease.device_part(&key, 0) == content());
        drop(lease);
        assert!(mover.free(WRITE, home));
    }
    let moved = 3 * LEN.next_multiple_of(GRANULE);
    let counters = device.counters();
    assert_eq!(counters.bytes_in.load(Ordering::Relaxed), moved);
    assert_eq!(counters.bytes_out.load(Ordering::Relaxed), moved);
    drop(table.evict(fast));
    drop(mover);
    assert_eq!((hbm.used_bytes(), spill.space().used_bytes()), (0, 0));
}
