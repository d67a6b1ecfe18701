//! How soon a node that died is suspect, and whether one that only pauses ever counts as gone.

use larder_pool::clock::Clock;
use larder_pool::node::sim::SimNode;
use larder_pool::remote::sim::{NoAnswer, Reach, SimClient};
use larder_pool::remote::{Capability, ObjectHash, Standing};
use larder_pool::sim::{Fault, Faults, Network, SplitMix, Timeline, Wiring};
use larder_pool::sys::net::Channel;
use larder_pool::units::BytesPerSec;
use std::sync::Arc;
use std::time::Duration;

const SEEDS: u64 = 1000;
/// Share of segments that are lost.
const LOSS: f64 = 0.1;
/// A node that does not answer is suspect within this time.
const SUSPECT_NS: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// A node that lives, behind its network.
struct Route {
    node: SimNode,
    network: Network,
    timeline: Timeline,
}

impl Reach for Route {
    fn connect(&self) -> Result<(Box<dyn Channel>, u64), NoAnswer> {
        use larder_pool::turns::Turns;
        if !self.network.passes(0) {
            return Err(NoAnswer::Silent);
        }
        let (ours, theirs) = self.network.connect(0);
        self.timeline.join(self.node.session(Box::new(theirs)));
        Ok((Box::new(ours), self.node.incarnation()))
    }

    fn open(&self, _hashes: &[ObjectHash]) -> Option<(u64, Vec<Option<Capability>>)> {
        Some((1 << 20, Vec::new()))
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn seed(&self) -> u64 {
        0
    }
}

/// One seed: how often the node was given up while it only paused, and how long it took until it
/// was suspect when its host vanished.
fn run(seed: u64) -> (u64, u64) {
    use larder_pool::turns::Turns;
    let timeline = Timeline::new(seed);
    let mut random = SplitMix(seed ^ 0x5151);
    let faults = Faults::default();
    faults.set_rate(Fault::Loss, LOSS);
    let wiring = Wiring {
        latency_ns: 20_000 + random.next_u64() % 1_000_000,
        bandwidth: BytesPerSec::new(1e9).expect("a rate"),
    };
    let network = Network::new(timeline.clone(), faults, wiring, seed);
    let clock = Arc::new(timeline.clone());
    let node = SimNode::start(1 << 20, 7, clock.clone()).expect("memory");
    let route = Arc::new(Route {
        node,
        network: network.clone(),
        timeline: timeline.clone(),
    });
    let client = SimClient::new("node", route, clock, (7, 1 << 20));
    timeline.join(client.watch(timeline.seat()));
    for _ in 0..4 {
        timeline.run_for(1000 * MS + random.next_u64() % (3000 * MS));
        network.pause(0);
    }
    timeline.run_for(20_000 * MS + random.next_u64() % (200 * MS));
    let false_ends = client.health().counts().lost;
    while client.health().standing() != Standing::Alive {
        timeline.run_for(MS);
    }
    let died = timeline.now();
    network.vanish(0);
    while client.health().standing() == Standing::Alive {
        timeline.run_for(MS);
    }
    let found = timeline.now().since(died);
    timeline.clear();
    (false_ends, found)
}

/// No false exclusion in all seeds; 99 of 100 dead nodes are suspect within a second.
pub(crate) fn check() {
    let all: Vec<(u64, u64)> = (0..SEEDS).map(run).collect();
    let false_ends: u64 = all.iter().map(|(count, _)| count).sum();
    let mut found: Vec<u64> = all.iter().map(|(_, found)| *found).collect();
    found.sort_unstable();
    let p99 = found[found.len() * 99 / 100];
    println!(
        "{SEEDS} seeds with pauses of 5 s and {:.0} % loss: {false_ends} false exclusions, a dead \
         node is suspect after {} ms at p50, {} ms at p99",
        LOSS * 100.0,
        found[found.len() / 2] / MS,
        p99 / MS
    );
    assert_eq!(false_ends, 0, "false exclusions");
    assert!(p99 <= SUSPECT_NS, "late detection: p99 is {} ms", p99 / MS);
}
