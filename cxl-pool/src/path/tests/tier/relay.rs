//! Copies between tiers that have memory: a device and mapped memory beside it.

use super::*;

/// The path from and to memory beside the fast tier, whose copies fail with probability `error`.
fn path(tier: &Tier, error: f64) -> Path {
    let key = tier.key.clone().expect("a device");
    let copier = Box::new(SteppedCopier::new(key, error, 9));
    let around = Around {
        clock: Arc::new(VirtualClock::default()),
        outcome: Box::new(tier.log.clone()),
        counters: Arc::default(),
        sums: Arc::clone(&tier.sums),
    };
    Path::new(
        PathParts::memory("hbm>dram".to_owned(), copier, None),
        around,
    )
}

fn copy(tier: &Tier, path: &mut Path, from: usize, slot: usize, space: &Arc<Space>) {
    let from = tier.table.pin(from).expect("ready");
    let extent = space.alloc_low(from.extent().1).expect("room");
    path.store(StoreWant {
        block: block_of(slot),
        from,
        class: Class::Demote,
        due: 0,
        fill: tier.table.begin_fill(slot, extent).expect("absent"),
    });
}

fn run_until_idle(path: &mut Path) {
    let mut turns = 0;
    while path.open_moves() > 0 {
        path.step(Duration::ZERO).expect("step");
        turns += 1;
        assert!(turns < 10_000, "every copy ends");
    }
}

#[test]
fn a_block_goes_to_memory_and_back_to_the_device() {
    let tier = tier(6, link(0.0, 0.0, 0.0), Fast::Device);
    let dram = Space::mapped(Mapping::new(8 << 20).expect("memory"));
    let (fast, home) = (slot_of(BlockId::new(0)), home_slot(BlockId::new(0), 0));
    let mut path = path(&tier, 0.0);
    tier.make(0, 0, &[3_000_000, 11]);
    copy(&tier, &mut path, fast, home, &dram);
    run_until_idle(&mut path);
    assert!(tier.evict_fast(0), "the copy has let its source go");
    let lease = tier.table.pin(home).expect("ready");
    assert!(lease.part(1) == pattern(0, 0, 1, 11), "read in place");
    drop(lease);
    copy(&tier, &mut path, home, fast, &tier.fast);
    run_until_idle(&mut path);
    assert!(tier.is_whole(0, 0));
    let moved = path.around.counters.bytes.load(Ordering::Relaxed);
    assert_eq!(moved, 2 * (100 + 3_000_000 + 100 + 11));
    drop((tier.table.evict(home), tier.table.evict(fast)));
    assert_eq!((dram.used_bytes(), tier.fast.used_bytes()), (0, 0));
}

#[test]
fn a_copy_that_fails_or_is_given_up_leaves_nothing() {
    let tier = tier(7, link(0.0, 0.0, 0.0), Fast::Device);
    let dram = Space::mapped(Mapping::new(8 << 20).expect("memory"));
    let (fast, home) = (slot_of(BlockId::new(0)), home_slot(BlockId::new(0), 0));
    tier.make(0, 0, &[3_000_000]);
    let mut failing = path(&tier, 1.0);
    copy(&tier, &mut failing, fast, home, &dram);
    run_until_idle(&mut failing);
    assert!(matches!(
        tier.error_of(home),
        Some(MoveError::Copy { status: 700, .. })
    ));
    tier.table.clear_poison(home);
    assert_eq!(dram.used_bytes(), 0);

    let mut path = path(&tier, 0.0);
    copy(&tier, &mut path, fast, home, &dram);
    path.step(Duration::ZERO).expect("step");
    path.cancel(home);
    assert_eq!(tier.table.state(home), State::Absent);
    assert!(dram.used_bytes() > 0, "the engine still writes");
    run_until_idle(&mut path);
    assert_eq!(dram.used_bytes(), 0);
    assert!(tier.is_whole(0, 0) && tier.evict_fast(0));
}
