//! A drill: handles of a node that are no longer good, after a free and after a restart.

use crate::world::{World, mapping};
use larder_pool::block::{BlockSpec, Run};
use larder_pool::mover::{Mover, PathParts, Request};
use larder_pool::node::sim::SimNode;
use larder_pool::remote::sim::{NoAnswer, Reach, SimClient};
use larder_pool::remote::{Capability, ObjectHash};
use larder_pool::sim::{Faults, Network, Timeline, Wiring};
use larder_pool::sys::lease::SlotTable;
use larder_pool::sys::net::Channel;
use larder_pool::sys::space::Space;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::turns::Turns;
use larder_pool::units::{BlockId, BytesPerSec, PathId};
use std::sync::Arc;
use std::time::Duration;

/// Memory of the nodes of the drill, and bytes of an object.
const MEM: u64 = 64 << 10;
const BYTES: usize = 5000;

/// The way to a node that is always there.
struct Direct {
    node: Arc<SimNode>,
    network: Network,
    timeline: Timeline,
}

impl Reach for Direct {
    fn connect(&self) -> Result<(Box<dyn Channel>, u64), NoAnswer> {
        let (ours, theirs) = self.network.connect(0);
        self.timeline.join(self.node.session(Box::new(theirs)));
        Ok((Box::new(ours), self.node.incarnation()))
    }

    fn open(&self, hashes: &[ObjectHash]) -> Option<(u64, Vec<Option<Capability>>)> {
        Some(self.node.open(hashes))
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn seed(&self) -> u64 {
        0
    }
}

/// Reads an object whole with a handle.
fn read(world: &World<'_>, node: &Arc<SimNode>, handle: Capability) -> Result<Vec<u8>, MoveError> {
    let timeline = world.timeline.clone();
    let wiring = Wiring {
        latency_ns: 50_000,
        bandwidth: BytesPerSec::new(1e9).expect("a rate"),
    };
    let network = Network::new(timeline.clone(), Faults::default(), wiring, 1);
    let reach = Arc::new(Direct {
        node: Arc::clone(node),
        network,
        timeline: timeline.clone(),
    });
    let clock = Arc::new(timeline);
    let client = SimClient::new("drill", reach, clock.clone(), (node.incarnation(), MEM));
    let (driver, source) = client.read_objects(&[(ObjectHash::of(b""), handle)]);
    let path = PathParts {
        name: "drill>dram".to_owned(),
        driver,
        source: Box::new(source),
        limit: None,
        bounce: None,
        disk: None,
    };
    let mover = Mover::stepped(SlotTable::new(1), vec![path], clock.clone(), clock);
    let space = Space::mapped(mapping(MEM));
    let run = Run {
        file: 0,
        offset: 0,
        len: BYTES as u64,
    };
    let spec = Arc::new(BlockSpec::from_ranges(&[run]));
    let extent = space
        .alloc_low(spec.extent_bytes())
        .expect("an empty space");
    let request = Request {
        block: BlockId::new(0),
        slot: 0,
        spec,
        class: Class::Demand,
        due: 0,
        is_checked: true,
        pinned: None,
    };
    let asked = mover.want(PathId::new(0), request, extent);
    assert!(asked.is_ok(), "an empty table");
    world.timeline.mark();
    let lease = mover.wait(0)?;
    Ok(lease.part(0).to_vec())
}

/// A handle gives its bytes or is refused, whatever stands in its place by now.
pub(crate) fn drill(world: &mut World<'_>) {
    let start = |incarnation| {
        let clock = Arc::new(world.timeline.clone());
        Arc::new(SimNode::start(MEM, incarnation, clock).expect("memory"))
    };
    let (first, second) = (start(1), start(2));
    let [one, next, other] = [1, 2, 3].map(|byte| vec![byte; BYTES]);
    let old = first.lend(&one).expect("room");
    assert_eq!(
        read(world, &first, old).ok(),
        Some(one),
        "wrong bytes by a good handle"
    );
    first.free(&old).expect("it is there");
    let good = first.lend(&next).expect("room");
    second.lend(&other).expect("room");
    assert!(
        read(world, &first, old).is_err(),
        "stale handle: freed, and served"
    );
    assert!(
        read(world, &second, old).is_err(),
        "stale handle: of another start, and served"
    );
    assert_eq!(
        read(world, &first, good).ok(),
        Some(next),
        "wrong bytes by a good handle"
    );
}
