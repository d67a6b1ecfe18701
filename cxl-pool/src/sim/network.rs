//! A simulated network between one client and its nodes, as TCP shows one: bytes come whole and in
//! order, late where segments were lost, not at all while hosts are parted, or the connection ends.

use super::faults::{Fault, Faults};
use super::random::SplitMix;
use super::timeline::Timeline;
use super::wire::{CLIENT, SimChannel, Wire, Wiring};
use crate::clock::Clock;
use parking_lot::Mutex;
use std::sync::Arc;

/// Time for which a node may stand still.
const PAUSE_NS: u64 = 5_000_000_000;

/// See the module; clones share it.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    timeline: Timeline,
    faults: Faults,
    wiring: Wiring,
    state: Mutex<State>,
}

struct State {
    random: SplitMix,
    /// Connections, by node.
    wires: Vec<(usize, Arc<Mutex<Wire>>)>,
    /// Nodes that nothing passes to.
    parted: Vec<usize>,
    /// Until when nodes stand still.
    paused: Vec<(usize, u64)>,
}

impl Network {
    pub fn new(timeline: Timeline, faults: Faults, wiring: Wiring, seed: u64) -> Self {
        Self(Arc::new(Inner {
            timeline,
            faults,
            wiring,
            state: Mutex::new(State {
                random: SplitMix(seed),
                wires: Vec::new(),
                parted: Vec::new(),
                paused: Vec::new(),
            }),
        }))
    }

    /// Whether the host of a node would answer now.
    pub fn passes(&self, node: usize) -> bool {
        let state = self.0.state.lock();
        let now = self.0.timeline.now().get();
        let mut paused = state.paused.iter();
        !state.parted.contains(&node) && !paused.any(|&(other, until)| other == node && now < until)
    }

    /// A new connection to a node: the client's end and the node's.
    pub fn connect(&self, node: usize) -> (SimChannel, SimChannel) {
        let mut state = self.0.state.lock();
        let random = SplitMix(state.random.next_u64());
        let (timeline, faults) = (&self.0.timeline, self.0.faults.clone());
        let wire = Arc::new(Mutex::new(Wire::new(
            timeline,
            faults,
            self.0.wiring,
            random,
        )));
        state.wires.retain(|(_, wire)| Arc::strong_count(wire) > 1);
        state.wires.push((node, Arc::clone(&wire)));
        SimChannel::pair(&wire)
    }

    /// The connections of a node.
    fn of(&self, node: usize) -> Vec<Arc<Mutex<Wire>>> {
        let state = self.0.state.lock();
        let wires = state.wires.iter().filter(|(other, _)| *other == node);
        wires.map(|(_, wire)| Arc::clone(wire)).collect()
    }

    /// Nothing passes between the client and the node from now on.
    pub fn part(&self, node: usize) {
        self.0.faults.count(Fault::Partition);
        self.0.state.lock().parted.push(node);
        let now = self.0.timeline.now().get();
        for wire in self.of(node) {
            wire.lock().part(now);
        }
    }

    /// What waits passes again, as soon as it is sent again.
    pub fn heal(&self, node: usize) {
        self.0.state.lock().parted.retain(|&other| other != node);
        let now = self.0.timeline.now().get();
        for wire in self.of(node) {
            wire.lock().heal(now);
        }
    }

    /// Resets every connection of the node.
    pub fn reset(&self, node: usize) {
        self.0.faults.count(Fault::Reset);
        self.end(node);
    }

    /// The node is gone, and its host says so to everybody.
    pub fn end(&self, node: usize) {
        for wire in self.of(node) {
            wire.lock().reset();
        }
    }

    /// The host of the node is gone without a word.
    pub fn vanish(&self, node: usize) {
        self.0.state.lock().parted.push(node);
        let now = self.0.timeline.now().get();
        for wire in self.of(node) {
            let mut wire = wire.lock();
            wire.part(now);
            wire.lose(1 - CLIENT);
        }
    }

    /// The node neither takes nor says anything for some seconds.
    pub fn pause(&self, node: usize) {
        self.0.faults.count(Fault::Pause);
        let until = self.0.timeline.now().get() + PAUSE_NS;
        self.0.state.lock().paused.push((node, until));
        for wire in self.of(node) {
            wire.lock().pause(1 - CLIENT, until);
        }
    }
}
