//! A door for fuzzers: whatever a node answers, every operation completes and brings its piece
//! home.

use super::dial::{Dial, Dialled, Unreached};
use super::driver::{Parts, RemoteDriver, Role};
use super::health::Health;
use super::table::{Contents, Objects};
use crate::clock::{Clock, RealClock};
use crate::wire::ObjectHash;
use crate::wire::capability::{Claim, Signer};
use crate::wire::fuzz::Script;
use crate::wire::request::Check;
use larder_sys::io::{Driver, Op, Verb};
use larder_sys::lease::SlotTable;
use larder_sys::mapping::Mapping;
use larder_sys::space::Space;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the object that is read.
pub const LEN: u64 = 3 * 4096;

/// Nobody is reached a second time.
struct Nobody;

impl Dial for Nobody {
    fn dial(&self) -> Result<Dialled, Unreached> {
        Err(Unreached::Refused)
    }

    fn seed(&self) -> u64 {
        0
    }
}

/// Takes `data` as all that a node ever answers to two reads; how many of them succeeded. Their
/// request ids are 1 and 2.
pub fn driver(data: &[u8]) -> usize {
    let capability = Signer::new(1, 2, [3; 32]).sign(Claim {
        extent: 0,
        generation: 1,
        length: LEN,
        crc: 0,
        tenant: 0,
    });
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let contents = Contents::new(&[(ObjectHash::of(b""), capability)]);
    let mut driver = RemoteDriver::new(Parts {
        channel: Some(Box::new(Script::new(data))),
        role: Role::Reader,
        objects: Objects::Content(Arc::new(contents)),
        check: Check::Crc,
        window: 1 << 20,
        dial: Arc::new(Nobody),
        health: Health::new(Arc::clone(&clock)),
        clock,
    });
    let Ok(mapping) = Mapping::new(LEN) else {
        return 0;
    };
    let space = Space::mapped(mapping);
    let Some(extent) = space.alloc_low(LEN) else {
        return 0;
    };
    let Ok(mut fill) = SlotTable::new(1).begin_fill(0, extent) else {
        return 0;
    };
    let mut cutter = fill.cutter();
    for (tag, len) in [(0, 4096), (1, 8192)] {
        let op = Op {
            tag,
            file: 0,
            offset: tag * 4096,
            verb: Verb::Read(cutter.cut(len)),
        };
        assert!(driver.submit(op).is_ok(), "two operations fit");
    }
    drop((cutter, fill));
    let mut done = Vec::new();
    for _ in 0..2 * data.len() + 10 {
        assert!(driver.reap(&mut done, Duration::ZERO).is_ok());
        if done.len() == 2 {
            break;
        }
    }
    assert_eq!(done.len(), 2, "every operation completes");
    let good = done.iter().filter(|one| one.outcome.is_ok()).count();
    drop(done);
    assert_eq!(space.used_bytes(), 0, "every piece came home");
    good
}
