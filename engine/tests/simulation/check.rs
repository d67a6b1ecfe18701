//! What must hold when everything has ended: nothing is lost, nothing is left.

use crate::world::{World, mapping};
use larder_pool::sim::Fault;
use larder_pool::sys::slot::State;
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;

/// Every block that a home says it has can be read from there.
pub(crate) fn commits(world: &mut World<'_>) {
    let result = world.stager.clear();
    assert!(
        result
            .as_ref()
            .map_or_else(|error| !is_bug(error), |()| true),
        "end: {result:?}"
    );
    let bytes = world.specs.iter().map(|spec| spec.extent_bytes()).max();
    for block in 0..world.specs.len() {
        let id = BlockId::new(block as u32);
        while let Some(home) = world.homes.readable(id) {
            let space = larder_pool::sys::space::Space::mapped(mapping(bytes.unwrap_or(0)));
            let extent = space.alloc_low(bytes.unwrap_or(0)).expect("an empty space");
            world.homes.fetch(id, Class::Demand, 0, extent);
            world.timeline.mark();
            match world.mover.wait(slot_of(id)) {
                Ok(lease) => {
                    for part in 0..world.model.parts(block) {
                        let is_right = lease.part(part) == world.model.part(block, part);
                        assert!(is_right, "wrong bytes: part {part} of {id} from its home");
                    }
                    drop(lease);
                    drop(world.mover.table().evict(slot_of(id)));
                    break;
                }
                Err(error) if error.is_lost() && world.is_hurt(home) => world.homes.lose(home),
                // A disk that flipped a bit has damaged what it took.
                Err(MoveError::Checksum { .. }) if world.count(Fault::Flip) > 0 => break,
                Err(error) => panic!("lost commit: {id} from {}: {error}", home_name(world, home)),
            }
        }
    }
}

fn home_name<'a>(world: &'a World<'_>, home: usize) -> &'a str {
    &world.homes.list[home].name
}

/// The error says that somebody dropped a move that nobody gave up.
pub(crate) const fn is_bug(error: &MoveError) -> bool {
    matches!(error, MoveError::Stopped { .. })
}

/// Frees everything, and looks whether anything is left.
pub(crate) fn leaks(world: &World<'_>) {
    for block in 0..world.specs.len() {
        world.timeline.mark();
        world.homes.free(BlockId::new(block as u32));
    }
    world.timeline.run_for(60_000_000_000);
    let table = world.mover.table();
    for slot in 0..table.len() {
        let state = table.state(slot);
        assert_eq!(table.pins(slot), 0, "leak: pins of slot {slot}");
        assert!(
            matches!(state, State::Absent),
            "leak: slot {slot} is {state:?} at the end"
        );
    }
    let used = world.space.used_bytes();
    assert_eq!(used, world.work_bytes(), "leak: extents of the fast tier");
    for home in &world.homes.list {
        assert_eq!(home.space.used_bytes(), 0, "leak: extents of {}", home.name);
    }
    for (number, host) in world.hosts.iter().enumerate() {
        let host = host.lock();
        let Some(node) = &host.node else { continue };
        let stat = node.stat();
        let health = world.clients[number].health();
        assert_eq!(
            stat.lent, 0,
            "leak: objects lent by node {number}, {health:?}"
        );
        assert_eq!(stat.mem_used, host.content, "leak: memory of node {number}");
    }
}
