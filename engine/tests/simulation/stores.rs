//! A drill: stores that are given up, and what is written to their places after that.

use crate::world::{DRILL_BLOCKS, DRILL_BYTES, World, mapping};
use larder_pool::block::stored_spec;
use larder_pool::mover::{Mover, PathParts, Request, Store};
use larder_pool::sim::{Fault, Faults, Link, MemoryFiles, SimDriver};
use larder_pool::sys::lease::{ReadLease, SlotTable};
use larder_pool::sys::slot::State;
use larder_pool::sys::space::Space;
use larder_pool::table::{block_table, home_slot, slot_of};
use larder_pool::transfer::Class;
use larder_pool::turns::Turns;
use larder_pool::units::{BlockId, BytesPerSec, PathId};
use std::sync::Arc;
use std::time::Duration;

/// Stores to a disk of the drill are given up while they are written, and their places are written
/// again; what was written last is what is read.
pub(crate) fn drill(world: &mut World<'_>) {
    let bytes = 2 * DRILL_BYTES as u64;
    let (disk, memory) = (Space::counted(bytes), Space::mapped(mapping(8 * bytes)));
    let table = block_table(DRILL_BLOCKS);
    let mover = mover(world, &table, bytes);
    let (mut kept, mut sources) = (Vec::new(), Vec::new());
    for number in 0..DRILL_BLOCKS {
        let id = BlockId::new(number as u32);
        let len = DRILL_BYTES as u64 - world.dice.below(100_000);
        let Some(target) = disk.alloc_low(len) else {
            world.timeline.rest(Duration::from_millis(1));
            continue;
        };
        let from = resident(&table, &memory, id, len);
        let slot = home_slot(id, 0);
        let store = Store {
            block: id,
            from,
            slot,
            class: Class::Demote,
            due: number as u64,
        };
        assert!(
            mover.store(PathId::new(0), store, target).is_ok(),
            "a new slot"
        );
        for _ in 0..world.dice.below(30) {
            world.timeline.pass();
        }
        if world.dice.chance(0.6) && table.state(slot) == State::Filling {
            mover.cancel(slot);
            world.faults.count(Fault::LateCompletion);
            world.timeline.mark();
            // One that was done before it heard of it stays.
            kept.extend(mover.wait(slot).is_ok().then_some(id));
        } else {
            kept.push(id);
        }
        sources.push(id);
    }
    for id in sources {
        let drained = given_up(world, &table, id);
        assert!(drained, "leak: a pin of the source of a store is left");
    }
    world.timeline.run_for(1_000_000_000);
    for id in kept {
        read_back(world, &mover, &memory, id);
        assert!(
            mover.free(PathId::new(0), home_slot(id, 0)),
            "nobody reads it"
        );
    }
    world.timeline.run_for(10_000_000_000);
    assert_eq!(
        disk.used_bytes() + memory.used_bytes(),
        0,
        "leak: extents of stores"
    );
}

/// Paths to a slow disk of the drill, and back.
fn mover(world: &World<'_>, table: &Arc<SlotTable>, bytes: u64) -> Mover {
    let link = Link {
        latency_ns: 20_000,
        bandwidth: BytesPerSec::new(2e8).expect("a rate"),
        error: 0.0,
        short: 0.0,
        flip: 0.0,
    };
    let files = MemoryFiles::new(vec![vec![0; bytes as usize]]);
    let weather = Faults::default();
    weather.set_rate(Fault::Slow, 0.3);
    let parts = |name: &str, seed| {
        let driver = SimDriver::new(files.clone(), world.timeline.seat(), link, seed);
        PathParts {
            name: name.to_owned(),
            driver: Box::new(driver.with_faults(weather.clone())),
            source: Box::new(files.clone()),
            limit: BytesPerSec::new(5e7),
            bounce: None,
            disk: None,
        }
    };
    let paths = vec![parts("drill>disk", 1), parts("disk>drill", 2)];
    let clock = Arc::new(world.timeline.clone());
    Mover::stepped(Arc::clone(table), paths, clock.clone(), clock)
}

/// A block of `len` bytes of its number, resident.
fn resident(table: &Arc<SlotTable>, memory: &Arc<Space>, id: BlockId, len: u64) -> ReadLease {
    let extent = memory.alloc_low(len).expect("room for two");
    let tail = table.begin_append(slot_of(id), extent);
    let mut tail = tail.expect("an absent slot");
    tail.bytes_mut().fill(id.index() as u8 + 1);
    tail.publish(len);
    table.pin(slot_of(id)).expect("published just now")
}

/// Drops the resident copy when the store lets go of it.
fn given_up(world: &World<'_>, table: &SlotTable, id: BlockId) -> bool {
    world.timeline.mark();
    (0..10_000).any(|_| {
        let is_free = table.evict(slot_of(id)).is_some();
        if !is_free {
            world.timeline.rest(Duration::from_millis(1));
        }
        is_free
    })
}

/// What was stored is what comes back.
fn read_back(world: &World<'_>, mover: &Mover, memory: &Arc<Space>, id: BlockId) {
    let stored = mover.table().pin(home_slot(id, 0)).expect("it was stored");
    let spec = stored_spec(&stored);
    let extent = memory.alloc_low(spec.extent_bytes()).expect("room for two");
    let request = Request {
        block: id,
        slot: slot_of(id),
        spec: Arc::new(spec),
        class: Class::Demand,
        due: 0,
        is_checked: true,
        pinned: Some(stored),
    };
    let asked = mover.want(PathId::new(1), request, extent);
    assert!(asked.is_ok(), "an absent slot");
    world.timeline.mark();
    let lease = mover.wait(slot_of(id));
    let lease = lease.unwrap_or_else(|error| panic!("lost commit: {id} of a drill: {error}"));
    let is_right = lease
        .part(0)
        .iter()
        .all(|&byte| byte == id.index() as u8 + 1);
    assert!(is_right, "wrong bytes: {id} in a drill of stores");
    drop(lease);
    drop(mover.table().evict(slot_of(id)));
}
