//! Many moves in both directions at once, in random order, with faults, cancels and ids that are
//! used again: whatever happens, a block is whole or absent, and nothing leaks.

use super::*;
use proptest::prelude::*;

/// What should be true of the blocks.
#[derive(Default)]
struct Model {
    versions: [u64; BLOCKS],
    whole: usize,
}

fn act(tier: &mut Tier, model: &mut Model, op: u8, pick: u64) {
    let (block, home) = (pick as usize % BLOCKS, (pick >> 8) as usize % 2);
    let id = BlockId::new(block as u32);
    let (fast, slot) = (slot_of(id), home_slot(id, home));
    let state = |slot| tier.table.state(slot);
    match op {
        0 => {
            let homes = (0..2).all(|home| state(home_slot(id, home)) == State::Absent);
            if state(fast) == State::Absent && homes && tier.fast.largest_hole() > 400_000 {
                model.versions[block] += 1;
                let len = 1 + (pick >> 16) % 300_000;
                let lens = [len, len / 2 + 1, 5];
                tier.make(block, model.versions[block], &lens[..=pick as usize % 3]);
            }
        }
        1 | 2 => {
            let has_room = tier.space.largest_hole() > 500_000;
            if state(fast) == State::Ready && state(slot) == State::Absent && has_room {
                tier.store(block, home);
            }
        }
        3 => {
            let has_room = tier.fast.largest_hole() > 500_000;
            if state(fast) == State::Absent && state(slot) == State::Ready && has_room {
                tier.fetch(block, home);
            }
        }
        4 => drop(tier.evict_fast(block)),
        5 => drop(tier.free(block, home)),
        6 if pick.is_multiple_of(3) => tier.write.cancel(slot),
        7 if pick.is_multiple_of(3) => tier.read.cancel(fast),
        _ => tier.step(),
    }
    model.whole += usize::from(tier.is_whole(block, model.versions[block]));
    clear(tier);
}

/// Clears poison; whoever failed has said why.
fn clear(tier: &Tier) {
    for slot in 0..BLOCKS * SLOTS_PER_BLOCK {
        if tier.table.state(slot) == State::Poisoned {
            assert!(tier.error_of(slot).is_some(), "{}", block_of(slot));
            tier.table.clear_poison(slot);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn blocks_are_whole_or_absent(
        seed in any::<u64>(),
        is_faulty in any::<bool>(),
        is_device in any::<bool>(),
        ops in prop::collection::vec((0..10u8, any::<u64>()), 50..300),
    ) {
        let faults = if is_faulty { link(0.1, 0.1, 0.05) } else { link(0.0, 0.0, 0.0) };
        let mut tier = tier(seed, faults, FASTS[usize::from(is_device)]);
        let mut model = Model::default();
        for (op, pick) in ops {
            act(&mut tier, &mut model, op, pick);
        }
        tier.run_until_idle();
        clear(&tier);
        for block in 0..BLOCKS {
            tier.is_whole(block, model.versions[block]);
            for home in 0..2 {
                let id = BlockId::new(block as u32);
                if tier.table.state(home_slot(id, home)) == State::Ready {
                    tier.evict_fast(block);
                    tier.fetch(block, home);
                    tier.run_until_idle();
                    let is_whole = tier.is_whole(block, model.versions[block]);
                    prop_assert!(is_whole || is_faulty);
                    clear(&tier);
                }
            }
        }
        tier.drain();
        prop_assert!(is_faulty || tier.files.sealed_count() == 0);
    }
}
