//! Drills: the mover asked directly, for what the stager rarely does.

use crate::world::{DRILL_BLOCKS, DRILL_BYTES, World};
use larder_pool::block::{BlockSpec, Run, stored_spec};
use larder_pool::checksum::PIECE_MAX;
use larder_pool::mover::{Mover, PathParts, Request, Store};
use larder_pool::sim::{Fault, Faults, Link, MemoryFiles, SimDriver};
use larder_pool::sys::lease::{ReadLease, SlotTable};
use larder_pool::sys::slot::State;
use larder_pool::sys::space::Space;
use larder_pool::table::{block_table, home_slot, slot_of};
use larder_pool::transfer::{Class, MoveError};
use larder_pool::turns::Turns;
use larder_pool::units::{BlockId, BytesPerSec, PathId};
use std::sync::Arc;
use std::time::Duration;

/// A block asked for under the number of a drill.
struct Asked {
    id: BlockId,
    spec: Arc<BlockSpec>,
    /// What its only part must be.
    expected: Vec<u8>,
}

/// A block of the drill: of the file for drills, or an object of a node.
fn block(world: &mut World<'_>, number: usize) -> Asked {
    let id = BlockId::new((world.first_drill + number) as u32);
    if world.has_files {
        let skip = world.dice.below(5000) as usize;
        let start = number * DRILL_BYTES + skip;
        let len = 1 + world.dice.below((DRILL_BYTES - skip) as u64) as usize;
        let run = Run {
            file: world.model.files.len() as u32,
            offset: start as u64,
            len: len as u64,
        };
        let spec = Arc::new(BlockSpec::from_ranges(&[run]));
        let expected = world.drill_bytes[start..start + len].to_vec();
        return Asked { id, spec, expected };
    }
    let block = world.dice.below(world.specs.len() as u64) as usize;
    let mut spec = (*world.specs[block]).clone();
    spec.parts.truncate(1);
    spec.runs[0].len = spec.parts[0].len;
    let expected = world.model.part(block, 0).to_vec();
    let spec = Arc::new(spec);
    Asked { id, spec, expected }
}

fn ask(world: &mut World<'_>, number: usize, space: &Arc<Space>) -> Option<Asked> {
    let asked = block(world, number);
    let extent = space.alloc_low(asked.spec.extent_bytes())?;
    world.mover.set_sums(asked.id, sums(&asked.expected));
    let request = Request {
        block: asked.id,
        slot: slot_of(asked.id),
        spec: Arc::clone(&asked.spec),
        class: Class::Prefetch,
        due: number as u64,
        is_checked: true,
        pinned: None,
    };
    let wanted = world.mover.want(PathId::new(0), request, extent);
    assert!(wanted.is_ok(), "only drills fill their slots");
    Some(asked)
}

/// Checksums of a part.
fn sums(bytes: &[u8]) -> Arc<[u32]> {
    let pieces = bytes.chunks(PIECE_MAX as usize);
    pieces.map(crc32c::crc32c).collect()
}

fn check(asked: &Asked, lease: &ReadLease) {
    let is_right = lease.part(0) == asked.expected;
    assert!(is_right, "wrong bytes: {} in a drill", asked.id);
}

/// Bytes that a block of a drill takes at most.
fn largest(world: &World<'_>) -> u64 {
    let blocks = world.specs.iter().map(|spec| spec.extent_bytes());
    blocks.max().unwrap_or(0).max((DRILL_BYTES + 8192) as u64)
}

/// Moves are given up while their operations are in flight, and what they leave is asked for.
pub(crate) fn cancel(world: &mut World<'_>) {
    // Room for few, so that an extent that comes back too early is used again at once.
    let space = Space::mapped(world.mapping(3 * largest(world)));
    let mut open: Vec<Asked> = Vec::new();
    for number in 0..DRILL_BLOCKS {
        let Some(asked) = ask(world, number, &space) else {
            // The memory of what was given up comes back when its operations have come home.
            world.timeline.pass();
            continue;
        };
        for _ in 0..world.dice.below(6) {
            world.timeline.pass();
        }
        if world.dice.chance(0.5) {
            let slot = slot_of(asked.id);
            if world.mover.table().state(slot) == State::Filling {
                world.mover.cancel(slot);
                world.faults.count(Fault::LateCompletion);
            }
        }
        open.push(asked);
    }
    let mut leases = Vec::new();
    for asked in open {
        world.timeline.mark();
        if let Ok(lease) = world.mover.wait(slot_of(asked.id)) {
            check(&asked, &lease);
            leases.push((asked, lease));
        }
    }
    // Whatever still arrives must not arrive here.
    world.timeline.run_for(1_000_000);
    for (asked, lease) in leases {
        check(&asked, &lease);
        drop(lease);
        let evicted = world.mover.table().evict(slot_of(asked.id));
        assert!(evicted.is_some(), "leak: a pin of {} is left", asked.id);
    }
    world.timeline.run_for(30_000_000_000);
    assert_eq!(space.used_bytes(), 0, "leak: extents of a drill");
}

/// Stores to a disk of the drill are given up while they are written, and their places are written
/// again; what was written last is what is read.
pub(crate) fn stores(world: &mut World<'_>) {
    let link = Link {
        latency_ns: 20_000,
        bandwidth: BytesPerSec::new(2e8).expect("a rate"),
        error: 0.0,
        short: 0.0,
        flip: 0.0,
    };
    let bytes = 2 * DRILL_BYTES as u64;
    let (disk, memory) = (
        Space::counted(bytes),
        Space::mapped(world.mapping(2 * bytes)),
    );
    let files = MemoryFiles::new(vec![vec![0; bytes as usize]]);
    let weather = Faults::default();
    weather.set_rate(Fault::Slow, 0.3);
    let parts = |name: &str, seed| PathParts {
        name: name.to_owned(),
        driver: Box::new(
            SimDriver::new(files.clone(), world.timeline.seat(), link, seed)
                .with_faults(weather.clone()),
        ),
        source: Box::new(files.clone()),
        limit: BytesPerSec::new(5e7),
        bounce: None,
    };
    let paths = vec![parts("drill>disk", 1), parts("disk>drill", 2)];
    let clock = Arc::new(world.timeline.clone());
    let table = block_table(DRILL_BLOCKS);
    let mover = Mover::stepped(Arc::clone(&table), paths, clock.clone(), clock);
    let mut kept = Vec::new();
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

/// A block that is waited for goes before every prefetch that has not been submitted.
pub(crate) fn demand(world: &mut World<'_>) -> Result<(), MoveError> {
    let space = Space::mapped(world.mapping(DRILL_BLOCKS as u64 * largest(world)));
    let mut open: Vec<Asked> = Vec::new();
    for number in 0..DRILL_BLOCKS {
        open.extend(ask(world, number, &space));
    }
    for _ in 0..world.dice.below(20) {
        world.timeline.pass();
    }
    let last = open.last().expect("there is room for all");
    let seen = world.log.lock().len();
    world.timeline.mark();
    let outcome = world.mover.wait(slot_of(last.id));
    if world.has_files {
        check_order(world, last, seen);
    }
    for asked in &open {
        world.timeline.mark();
        if let Ok(lease) = world.mover.wait(slot_of(asked.id)) {
            check(asked, &lease);
        }
    }
    let outcome = outcome.map(drop);
    for asked in &open {
        drop(world.mover.table().evict(slot_of(asked.id)));
    }
    world.timeline.run_for(30_000_000_000);
    assert_eq!(space.used_bytes(), 0, "leak: extents of a drill");
    outcome
}

/// Nothing but the demand, and what is tried again, was submitted before its last operation.
fn check_order(world: &World<'_>, demand: &Asked, seen: usize) {
    let log = world.log.lock();
    let run = demand.spec.runs[0];
    let places = run.aligned_offset()..run.aligned_offset() + run.aligned_len();
    let is_own = |op: &(u32, u64, u64)| op.0 == run.file && places.contains(&op.1);
    let (before, after) = log.split_at(seen);
    // What was submitted for the first time; the rest is tried again.
    let mut first: Vec<&(u32, u64, u64)> = Vec::new();
    for op in after {
        if !before.contains(op) && !first.contains(&op) {
            first.push(op);
        }
    }
    let Some(last) = first.iter().rposition(|op| is_own(op)) else {
        return;
    };
    let others = first[..last].iter().filter(|op| !is_own(op));
    let bytes: u64 = others.map(|op| op.2).sum();
    assert!(
        bytes == 0,
        "late demand: {bytes} bytes of prefetches went before it"
    );
}
