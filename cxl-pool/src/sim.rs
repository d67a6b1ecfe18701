//! The simulated world: files in memory behind links with seeded latency, bandwidth and faults, a
//! network, and the timeline on which the real paths, nodes and stager take their turns.
//!
//! Everything here implements the traits that the product's own parts do, so what stands above
//! them is real. Time is virtual: waiting moves the clock to the next event.

mod random;

mod faults;

mod timeline;

mod files;

mod driver;

mod copier;

mod wire;

mod network;

pub use copier::SteppedCopier;
pub use driver::{Link, OpLog, SimDriver};
pub use faults::{Fault, Faults};
pub use files::MemoryFiles;
pub use network::Network;
pub use random::SplitMix;
pub use timeline::{Seat, Timeline, Waits};
pub use wire::{SimChannel, Wiring};
