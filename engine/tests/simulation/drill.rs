//! Drills: the mover asked directly, for what the stager rarely does.

use crate::world::{DRILL_BLOCKS, DRILL_BYTES, World, mapping};
use larder_pool::block::{BlockSpec, Run};
use larder_pool::checksum::PIECE_MAX;
use larder_pool::crc::crc32c;
use larder_pool::mover::Request;
use larder_pool::sim::Fault;
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::slot::State;
use larder_pool::sys::space::Space;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::turns::Turns;
use larder_pool::units::{BlockId, PathId};
use std::sync::Arc;

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
    pieces.map(crc32c).collect()
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
    let space = Space::mapped(mapping(3 * largest(world)));
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

/// Experts that a request demanded before it failed are demands still, and may go first: they end.
fn end_other_demands(world: &World<'_>) {
    let experts = world.model.manifest.program.dense_blocks()..world.specs.len();
    for block in experts {
        let slot = slot_of(BlockId::new(block as u32));
        world.timeline.mark();
        while world.mover.table().state(slot) == State::Filling {
            world.timeline.pass();
        }
    }
}

/// A block that is waited for goes before every prefetch that has not been submitted.
pub(crate) fn demand(world: &mut World<'_>) -> Result<(), MoveError> {
    end_other_demands(world);
    let space = Space::mapped(mapping(DRILL_BLOCKS as u64 * largest(world)));
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
