//! What goes wrong in a seed: the weather on every operation, and events at any time.

use crate::world::World;
use larder_pool::sim::Fault;
use larder_pool::sys::space::Extent;
use std::sync::Arc;

/// Highest rates of what may happen to an operation on a disk, and to a message.
const DISK: [(Fault, f64); 7] = [
    (Fault::Eio, 0.05),
    (Fault::Short, 0.2),
    (Fault::Flip, 0.03),
    (Fault::Slow, 0.05),
    (Fault::Stuck, 0.01),
    (Fault::OldData, 0.2),
    (Fault::Full, 0.02),
];
const NETWORK: [(Fault, f64); 3] = [
    (Fault::Loss, 0.1),
    (Fault::Flip, 0.002),
    (Fault::Duplicate, 0.002),
];

/// Draws the weather of a seed.
pub(crate) fn set_weather(world: &mut World<'_>) {
    for (fault, most) in DISK {
        if world.dice.chance(0.5) {
            let rate = most * world.dice.below(1000) as f64 / 1000.0;
            world.faults.set_rate(fault, rate);
        }
    }
    for (fault, most) in NETWORK {
        if world.dice.chance(0.5) {
            let rate = most * world.dice.below(1000) as f64 / 1000.0;
            world.net_faults.set_rate(fault, rate);
        }
    }
}

/// Perhaps lets something happen soon; memory that others take meanwhile comes back.
pub(crate) fn stir(world: &mut World<'_>) -> Option<Extent> {
    if !world.dice.chance(0.15) {
        return None;
    }
    let delay = world.dice.below(20_000_000);
    let number = world.dice.below(world.hosts.len() as u64) as usize;
    let (network, timeline) = (world.network.clone(), world.timeline.clone());
    match world.dice.below(12) {
        0 | 1 => {
            let length = 1 << world.dice.between(20, 35);
            timeline.clone().after(delay, move || {
                network.part(number);
                let healed = network.clone();
                timeline.after(length, move || healed.heal(number));
            });
        }
        2 => timeline.after(delay, move || network.reset(number)),
        3..=6 => timeline.after(delay, move || network.pause(number)),
        7 => {
            let host = Arc::clone(&world.hosts[number]);
            let is_silent = world.dice.chance(0.5);
            let back = world.dice.between(1 << 24, 1 << 35);
            let faults = world.faults.clone();
            timeline.clone().after(delay, move || {
                faults.count(Fault::Death);
                host.lock().node = None;
                if is_silent {
                    network.vanish(number);
                } else {
                    network.end(number);
                }
                let again = timeline.clone();
                timeline.after(back, move || {
                    faults.count(Fault::Return);
                    host.lock().start(&again);
                    network.heal(number);
                    network.end(number);
                });
            });
        }
        8 => {
            world.faults.count(Fault::ClockJump);
            let jump = world.dice.between(1_000_000, 3_600_000_000_000);
            timeline.jump(jump);
            timeline.mark();
        }
        _ => return take_memory(world),
    }
    None
}

/// Takes memory where KV would grow.
fn take_memory(world: &World<'_>) -> Option<Extent> {
    let bytes = world.layout.needs().kv.slice_bytes;
    let taken = world.space.alloc_high(bytes)?;
    if taken.start() < world.border {
        return None;
    }
    world.faults.count(Fault::NoMemory);
    Some(taken)
}

/// Everything that was hurt is well again, except what was lost.
pub(crate) fn end(world: &World<'_>) {
    world.faults.calm();
    world.net_faults.calm();
    // The longest that anything is late, out of reach or dead.
    world.timeline.run_for(90_000_000_000);
}
