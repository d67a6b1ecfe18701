//! How a node is reached, once and again.

use larder_sys::net::Channel;
use std::time::Duration;

/// A connection past the handshake.
pub(crate) struct Dialled {
    pub(crate) channel: Box<dyn Channel>,
    /// Number of the start of the node behind it.
    pub(crate) incarnation: u64,
    /// Silence after which the node frees what a connection lent.
    pub(crate) lease: Duration,
}

/// Why a node was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreached {
    /// Nothing came back; it may be cut off or paused.
    Silent,
    /// There is no such node any more, or it sends us away.
    Refused,
}

/// Makes connections to one address.
pub(crate) trait Dial: Send + Sync {
    /// Connects, waiting for about a second at most.
    fn dial(&self) -> Result<Dialled, Unreached>;

    /// A number that sets the waits of this address apart from those of others.
    fn seed(&self) -> u64;
}

/// First and longest wait between two tries to reach a node.
pub(crate) const DIAL_FIRST_NS: u64 = 50_000_000;
pub(crate) const DIAL_MOST_NS: u64 = 2_000_000_000;

/// Opens again what a client held at a node, when that begins a new life.
pub(crate) trait Returned: Send + Sync {
    /// The node is there, as start `incarnation` of it. Bytes that it can lend now; `None` if it
    /// is of no use yet.
    fn returned(&self, incarnation: u64) -> Option<u64>;

    /// Opens what the node did not have when it returned, if it has it by now.
    fn look_again(&self);
}
