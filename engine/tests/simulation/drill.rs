//! Drills: the mover asked directly, for what the stager rarely does.

use crate::world::{DRILL_BLOCKS, World};
use larder_pool::block::BlockSpec;
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

/// A block of the model asked for under the number of a drill.
struct Asked {
    id: BlockId,
    /// The block of the model whose bytes they are.
    block: usize,
    spec: Arc<BlockSpec>,
}

fn ask(world: &mut World<'_>, number: usize, space: &Arc<Space>, due: u64) -> Option<Asked> {
    let block = world.dice.below(world.specs.len() as u64) as usize;
    let spec = Arc::clone(&world.specs[block]);
    let extent = space.alloc_low(spec.extent_bytes())?;
    let id = BlockId::new((world.first_drill + number) as u32);
    world.mover.set_sums(id, Arc::clone(&world.model.sums[block]));
    let request = Request {
        block: id,
        slot: slot_of(id),
        spec: Arc::clone(&spec),
        class: Class::Prefetch,
        due,
        is_checked: true,
        pinned: None,
    };
    let asked = world.mover.want(PathId::new(0), request, extent);
    assert!(asked.is_ok(), "only drills fill their slots");
    Some(Asked { id, block, spec })
}

fn check(world: &World<'_>, asked: &Asked, lease: &ReadLease) {
    for part in 0..world.model.parts(asked.block) {
        let is_right = lease.part(part) == world.model.part(asked.block, part);
        assert!(is_right, "wrong bytes: part {part} of {} in a drill", asked.id);
    }
}

/// Moves are given up while their operations are in flight, and what they leave is asked for.
pub(crate) fn cancel(world: &mut World<'_>) {
    // Room for few, so that an extent that comes back too early is used again at once.
    let largest = world.specs.iter().map(|spec| spec.extent_bytes()).max();
    let space = Space::mapped(world.mapping(3 * largest.unwrap_or(0)));
    let mut open: Vec<Asked> = Vec::new();
    for number in 0..DRILL_BLOCKS {
        let Some(asked) = ask(world, number, &space, number as u64) else {
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
            check(world, &asked, &lease);
            leases.push((asked, lease));
        }
    }
    // Whatever still arrives must not arrive here.
    world.timeline.run_for(1_000_000);
    for (asked, lease) in leases {
        check(world, &asked, &lease);
        drop(lease);
        let evicted = world.mover.table().evict(slot_of(asked.id));
        assert!(evicted.is_some(), "leak: a pin of {} is left", asked.id);
    }
    world.timeline.run_for(30_000_000_000);
    assert_eq!(space.used_bytes(), 0, "leak: extents of a drill");
}

/// A block that is waited for goes before every prefetch that has not been submitted.
pub(crate) fn demand(world: &mut World<'_>) -> Result<(), MoveError> {
    let bytes = world.specs.iter().map(|spec| spec.extent_bytes());
    let space = Space::mapped(world.mapping(DRILL_BLOCKS as u64 * bytes.max().unwrap_or(0)));
    let mut open: Vec<Asked> = Vec::new();
    for number in 0..DRILL_BLOCKS {
        open.extend(ask(world, number, &space, number as u64));
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
            check(world, asked, &lease);
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
    let is_own = |at: u64| {
        let mut runs = demand.spec.runs.iter();
        runs.any(|run| {
            let start = run.aligned_offset();
            (start..start + run.aligned_len()).contains(&at)
        })
    };
    let (before, after) = log.split_at(seen);
    let Some(last) = after.iter().rposition(|&(at, _)| is_own(at)) else {
        return;
    };
    let others = after[..last]
        .iter()
        .filter(|one| !is_own(one.0) && !before.contains(one));
    let bytes: u64 = others.map(|&(_, len)| len).sum();
    assert!(bytes == 0, "late demand: {bytes} bytes of prefetches went before it");
}
