//! A door for simulation: drivers and lent memory over channels that somebody else has made.

use super::driver::{Parts, RemoteDriver};
use super::lent::{Lent, LentSource};
use super::link::Connector;
use super::objects::ObjectSource;
use super::table::Objects;
use super::{RemoteOptions, WINDOW};
use crate::clock::Clock;
use crate::wire::ObjectHash;
use crate::wire::capability::Capability;
use crate::wire::request::Check;
use larder_sys::io::Driver;
use larder_sys::net::Channel;
use std::sync::Arc;

/// Address space of `bytes` at a node of that name.
pub fn lend(name: &str, bytes: u64, incarnation: u64) -> Arc<Lent> {
    let connector = Connector::unconnected(RemoteOptions::new(name), incarnation);
    Lent::new(Arc::new(connector), bytes)
}

/// A driver that reads, writes, seals and frees in lent memory, and its source.
pub fn lent_driver(
    lent: &Lent,
    channel: Box<dyn Channel>,
    clock: Arc<dyn Clock>,
) -> (Box<dyn Driver>, LentSource) {
    let liveness = Arc::default();
    let driver = RemoteDriver::new(Parts {
        channel,
        objects: lent.objects(),
        check: Check::Crc,
        window: WINDOW,
        liveness: Arc::clone(&liveness),
        clock,
    });
    (Box::new(driver), lent.source(liveness))
}

/// A driver that reads content of a node of that name, and its source.
pub fn content_driver(
    name: &str,
    objects: &[(ObjectHash, Capability)],
    channel: Box<dyn Channel>,
    clock: Arc<dyn Clock>,
) -> (Box<dyn Driver>, ObjectSource) {
    let objects: Arc<[_]> = Arc::from(objects);
    let liveness = Arc::default();
    let driver = RemoteDriver::new(Parts {
        channel,
        objects: Objects::Content(Arc::clone(&objects)),
        check: Check::Crc,
        window: WINDOW,
        liveness: Arc::clone(&liveness),
        clock,
    });
    (Box::new(driver), ObjectSource::new(objects, name, liveness))
}
