//! A door for fuzzers: a whole conversation with a node, without a socket.

use super::session::Session;
use super::{NodeOptions, Shared};
use crate::clock::RealClock;
use crate::units::Nanos;
use crate::wire::capability::Signer;
use crate::wire::fuzz::Script;
use std::net::SocketAddr;
use std::sync::Arc;

/// Memory of the node under test, in bytes.
const MEM: u64 = 64 << 10;

/// How the node under test signs; its first grant has place 0 and generation 1.
pub const fn signer() -> Signer {
    Signer::new(1, 2, [3; 32])
}

/// Takes `data` as all that a client ever says to a fresh node; how many objects of content it
/// left there. Nothing else is left.
pub fn session(data: &[u8]) -> u64 {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = NodeOptions::new(listen, MEM);
    let Ok((shared, _)) = Shared::new(options, Arc::new(RealClock::new()), signer()) else {
        return 0;
    };
    let shared = Arc::new(Shared {
        lends: true,
        ..shared
    });
    Session::new(Arc::clone(&shared), Box::new(Script::new(data)), 1).serve();
    // Nobody comes with the tickets.
    shared.places.expire(Nanos::new(u64::MAX));
    let stat = shared.store.stat(0);
    assert_eq!(stat.lent, 0, "what was lent goes with its connection");
    assert!(stat.content > 0 || stat.mem_used == 0, "so do grants");
    stat.content
}
