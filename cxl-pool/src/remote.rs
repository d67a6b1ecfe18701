//! The other end of a memory node: what an engine uses.
//!
//! [`Client`] speaks on a control connection, one blocking call after the other, each with a time
//! limit. Bulk data goes over drivers for the mover, each with a connection of its own:
//! [`Client::read_objects`] reads content, [`Client::lend`] lends memory for bytes of the client's
//! own.

mod dial;
mod pulse;

mod health;

mod link;
mod table;
mod watch;

mod driver;

mod handed;
mod objects;
mod placed;
mod lent;

mod client;

#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod sim;

pub use client::{Client, NodeInfo, PutContent};
pub use health::{Health, HealthCounts, Standing};
pub use lent::{Lent, LentSource};
pub use objects::ObjectSource;
pub use placed::{Placed, PlacedLoan};
pub use pulse::{Pulse, Sign};
pub use watch::Watch;

pub use crate::wire::ObjectHash;
pub use crate::wire::capability::Capability;
pub use crate::wire::reply::{NamedModel, Refusal, Stat};
pub use crate::wire::request::Check;

use crate::wire::WireError;
use larder_sys::net::Transport;
use std::time::Duration;

/// Window of a driver, in bytes. Measured on loopback: 2 MiB is slower, the bytes leave the caches.
/// It covers 100 us of a link of 10 GB/s.
const WINDOW: usize = 1 << 20;

/// How a node is reached.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Host and port, such as `10.0.0.7:7311`.
    pub address: String,
    /// The token, if the node wants one.
    pub token: Option<String>,
    /// Longest wait for a connection, and for the answer to one call.
    pub timeout: Duration,
    pub check: Check,
    /// Bytes that a driver asks for and has not received, above which the next range waits. It
    /// covers a round trip of the link and stays in the caches of sender and receiver.
    pub window: usize,
    pub transport: Transport,
}

impl RemoteOptions {
    /// A node without a token, every byte checked.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            token: None,
            timeout: Duration::from_secs(10),
            check: Check::Crc,
            window: WINDOW,
            transport: Transport::Best,
        }
    }
}

/// A node could not be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("connect to tcp://{address}: {error}; is `larder node` running there?")]
    Connect {
        address: String,
        error: std::io::Error,
    },
    #[error("{call} at tcp://{address}: {error}; the node is lost or does not answer")]
    Lost {
        call: &'static str,
        address: String,
        error: std::io::Error,
    },
    #[error("{call} at tcp://{address}: {error}")]
    Wire {
        call: &'static str,
        address: String,
        error: WireError,
    },
    #[error("{call} at tcp://{address}: {refusal}")]
    Refused {
        call: &'static str,
        address: String,
        refusal: Refusal,
    },
    #[error("connect to tcp://{address}: the node does not hold this token; check --token-file")]
    Impostor { address: String },
    #[error("the node at tcp://{address} was restarted; open what it held again")]
    Restarted { address: String },
    #[error("{hash} from tcp://{address}: the bytes are not those of the name; load it again")]
    Corrupt { hash: ObjectHash, address: String },
    #[error("tcp://{address} holds no object {hash}; load it again")]
    Missing { hash: ObjectHash, address: String },
    #[error("{what} is out of range: {value}, at most {max}")]
    Range {
        what: &'static str,
        value: u64,
        max: u64,
    },
    #[error("lend {bytes} bytes at tcp://{address}: it has {free} free; give it more --mem")]
    TooLarge {
        bytes: u64,
        free: u64,
        address: String,
    },
}

impl RemoteError {
    /// The node has no room; another may.
    pub const fn is_capacity(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::Refused {
                    refusal: Refusal::Full { .. } | Refusal::Limit { .. },
                    ..
                }
        )
    }

    /// The node is gone, or is not the one it was.
    pub const fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Lost { .. } | Self::Restarted { .. }
        )
    }
}
