//! What happens in a seed, and what it came to.

use crate::model::Model;
use crate::request::Request;
use crate::world::World;
use crate::{chaos, check, drill, handles, stores};
use larder::kv::KvError;
use larder_pool::sim::Fault;

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) faults: [u64; Fault::ALL.len()],
    /// Requests that ended well, and with an error.
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) virtual_ns: u64,
    pub(crate) turns: u64,
    /// Bytes that were compared with the model's.
    pub(crate) bytes: u64,
    /// Stands for everything that happened.
    pub(crate) trace: u64,
}

/// Runs a seed; a broken invariant panics.
pub(crate) fn run(seed: u64, models: &[Model]) -> Outcome {
    let mut world = World::new(seed, models);
    let mut outcome = Outcome::default();
    let is_fair = world.dice.chance(0.1);
    if !is_fair {
        chaos::set_weather(&mut world);
    }
    for number in 0..world.dice.between(1, 4) {
        serve(&mut world, seed << 4 | number, is_fair, &mut outcome);
        if world.dice.chance(0.3) {
            drill::cancel(&mut world);
        }
        if world.dice.chance(0.3) {
            let _ = drill::demand(&mut world);
        }
        if world.dice.chance(0.3) {
            stores::drill(&mut world);
        }
        if world.dice.chance(0.1) {
            handles::drill(&mut world);
        }
    }
    chaos::end(&world);
    serve(&mut world, seed << 4 | 15, true, &mut outcome);
    check::commits(&mut world);
    check::leaks(&world);
    for fault in Fault::ALL {
        outcome.faults[fault as usize] = world.count(fault);
    }
    outcome.bytes = world.compared;
    outcome.virtual_ns = world.now();
    (outcome.turns, outcome.trace) = world.timeline.trace();
    let timeline = world.timeline.clone();
    drop(world);
    timeline.clear();
    outcome
}

/// Serves one request to its end; an error ends it.
fn serve(world: &mut World<'_>, number: u64, is_calm: bool, outcome: &mut Outcome) {
    let tokens = 1 + world.dice.below(world.layout.needs().context as u64 / 2) as usize;
    let mut request = Request::start(world, number, tokens);
    let result = steps(world, &mut request, is_calm);
    let is_done = result.is_ok();
    if let Err(error) = result {
        assert!(world.all_faults() > 0, "error without a fault: {error}");
        check_cause(world, &error);
        world.timeline.note(1);
        world.stager.abandon();
    }
    world.timeline.mark();
    drop(request);
    if is_done {
        outcome.done += 1;
    } else {
        outcome.failed += 1;
    }
}

/// Errors that need a fault of a certain kind have had one.
fn check_cause(world: &World<'_>, error: &KvError) {
    if let KvError::Move(error) = error {
        assert!(!check::is_bug(error), "error without a cause: {error}");
    }
    let changed = world.count(Fault::Flip) + world.count(Fault::OldData);
    let is_mismatch = error.to_string().contains("checksum of part");
    assert!(
        !is_mismatch || changed > 0,
        "wrong bytes, but noticed: {error}"
    );
}

fn steps(world: &mut World<'_>, request: &mut Request, is_calm: bool) -> Result<(), KvError> {
    request.begin(world)?;
    while !request.is_done() {
        let taken = if is_calm { None } else { chaos::stir(world) };
        request.step(world)?;
        drop(taken);
    }
    Ok(())
}
