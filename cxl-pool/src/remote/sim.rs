//! A door for simulation: a client whose connections somebody else makes, without a thread.

use super::RemoteOptions;
use super::dial::{Dial, Dialled, Returned, Unreached};
use super::health::{Begin, Health};
use super::lent::Lent;
use super::link::Connector;
use super::objects::{ObjectSource, reader};
use super::table::Contents;
use super::watch::Watcher;
use crate::clock::Clock;
use crate::sim::Seat;
use crate::turns::Actor;
use crate::units::Nanos;
use crate::wire::ObjectHash;
use crate::wire::capability::Capability;
use larder_sys::io::Driver;
use larder_sys::net::Channel;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Longest turn of a watch.
const TURN: Duration = Duration::from_millis(100);

/// Why a node was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    Silent,
    Refused,
}

/// How a simulated client reaches its node.
pub trait Reach: Send + Sync {
    /// A connection past the handshake, and the start of the node behind it.
    fn connect(&self) -> Result<(Box<dyn Channel>, u64), NoAnswer>;

    /// Bytes that the node can lend, and its capabilities for content; `None` if it is gone.
    fn open(&self, hashes: &[ObjectHash]) -> Option<(u64, Vec<Option<Capability>>)>;

    /// Silence after which the node frees what a connection lent.
    fn lease(&self) -> Duration;

    fn seed(&self) -> u64;
}

struct Through(Arc<dyn Reach>);

impl Dial for Through {
    fn dial(&self) -> Result<Dialled, Unreached> {
        match self.0.connect() {
            Ok((channel, incarnation)) => Ok(Dialled {
                channel,
                incarnation,
                lease: self.0.lease(),
            }),
            Err(NoAnswer::Silent) => Err(Unreached::Silent),
            Err(NoAnswer::Refused) => Err(Unreached::Refused),
        }
    }

    fn seed(&self) -> u64 {
        self.0.seed()
    }
}

/// A client of one node.
pub struct SimClient {
    connector: Arc<Connector>,
    reach: Arc<dyn Reach>,
    contents: Mutex<Vec<Arc<Contents>>>,
}

impl SimClient {
    /// A client of the node of that name, start `incarnation` of which is there with `free` bytes.
    pub fn new(
        name: &str,
        reach: Arc<dyn Reach>,
        clock: Arc<dyn Clock>,
        (incarnation, free): (u64, u64),
    ) -> Arc<Self> {
        let dial = Arc::new(Through(Arc::clone(&reach)));
        let connector = Connector::through(dial, &RemoteOptions::new(name), clock);
        connector.adopt(incarnation);
        connector.health().begin(free, Begin::AtStart);
        Arc::new(Self {
            connector: Arc::new(connector),
            reach,
            contents: Mutex::default(),
        })
    }

    pub fn health(&self) -> &Arc<Health> {
        self.connector.health()
    }

    /// Address space of `bytes` at the node.
    pub fn lend(&self, bytes: u64) -> Arc<Lent> {
        Lent::new(Arc::clone(&self.connector), bytes)
    }

    /// A driver that reads content, and its source; the node can be reached now.
    pub fn read_objects(
        &self,
        objects: &[(ObjectHash, Capability)],
    ) -> (Box<dyn Driver>, ObjectSource) {
        let contents = Arc::new(Contents::new(objects));
        self.contents.lock().push(Arc::clone(&contents));
        let channel = self.connector.channel().ok();
        let source = ObjectSource::new(contents, self.connector.address().to_owned());
        (reader(&self.connector, channel, &source), source)
    }

    /// The watch over the node; `seat` is one of its timeline.
    pub fn watch(self: &Arc<Self>, seat: Seat) -> Box<dyn Actor> {
        let connector = Arc::clone(&self.connector);
        let start = connector.incarnation();
        let around = (
            Arc::clone(connector.health()),
            Arc::clone(connector.clock()),
        );
        let watcher = Watcher::new((connector, Arc::clone(self) as _), around, Some(start));
        Box::new(WatchActor { watcher, seat })
    }
}

impl Returned for SimClient {
    fn returned(&self, incarnation: u64) -> Option<u64> {
        self.connector.adopt(incarnation);
        let free = self.reach.open(&[])?.0;
        for contents in self.contents.lock().iter() {
            let (_, found) = self.reach.open(contents.hashes())?;
            contents.reopen(&found);
        }
        Some(free)
    }

    fn look_again(&self) {
        for contents in self.contents.lock().iter().filter(|one| !one.is_whole()) {
            if let Some((_, found)) = self.reach.open(contents.hashes()) {
                contents.reopen(&found);
            }
        }
    }
}

struct WatchActor {
    watcher: Watcher,
    seat: Seat,
}

impl Actor for WatchActor {
    fn turn(&mut self) -> bool {
        let had_connection = self.watcher.has_connection();
        let rest = self.watcher.step(TURN);
        if !rest.is_zero() {
            let until = self.seat.now().get() + rest.as_nanos() as u64;
            self.seat.wait_until(Nanos::new(until));
        } else if !had_connection || !self.watcher.has_connection() {
            self.seat.wait_until(self.seat.now());
        }
        true
    }
}
