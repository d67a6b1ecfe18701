//! What goes wrong in simulation: how often, and how often it did.

use super::random::SplitMix;
use parking_lot::Mutex;
use std::sync::Arc;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An operation fails with an I/O error.
    Eio,
    /// Fewer bytes are moved than asked.
    Short,
    /// One bit is flipped, on a disk or on a link.
    Flip,
    /// An operation takes a hundred times as long.
    Slow,
    /// An operation completes seconds later.
    Stuck,
    /// A read brings what stood there before.
    OldData,
    /// A write finds its tier full.
    Full,
    /// A move is given up while its operations are in flight, so they complete after that.
    LateCompletion,
    /// A node answers twice.
    Duplicate,
    /// A segment is lost and comes again later.
    Loss,
    /// Nothing passes between two hosts for a while.
    Partition,
    /// A connection is reset.
    Reset,
    /// A node stands still, and goes on.
    Pause,
    /// A node dies with all it holds.
    Death,
    /// A node that died is there again, empty.
    Return,
    /// Time jumps on.
    ClockJump,
    /// A node says that it has more memory than it has.
    Lie,
    /// Memory is taken by others when it is asked for.
    NoMemory,
}

impl Fault {
    pub const ALL: [Self; 18] = [
        Self::Eio,
        Self::Short,
        Self::Flip,
        Self::Slow,
        Self::Stuck,
        Self::OldData,
        Self::Full,
        Self::LateCompletion,
        Self::Duplicate,
        Self::Loss,
        Self::Partition,
        Self::Reset,
        Self::Pause,
        Self::Death,
        Self::Return,
        Self::ClockJump,
        Self::Lie,
        Self::NoMemory,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eio => "EIO",
            Self::Short => "short read or write",
            Self::Flip => "flipped bit",
            Self::Slow => "slow",
            Self::Stuck => "stuck",
            Self::OldData => "old data",
            Self::Full => "full tier",
            Self::LateCompletion => "completion after cancel",
            Self::Duplicate => "duplicate completion",
            Self::Loss => "lost segment",
            Self::Partition => "partition",
            Self::Reset => "reset",
            Self::Pause => "pause",
            Self::Death => "node death",
            Self::Return => "node return",
            Self::ClockJump => "clock jump",
            Self::Lie => "node that lies about its size",
            Self::NoMemory => "out of memory",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    /// Probability per operation, from 0 to 1.
    rate: f64,
    count: u64,
}

/// Rates and counts of all kinds; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<[Kind; Fault::ALL.len()]>>);

impl Faults {
    /// Sets the probability per operation.
    pub fn set_rate(&self, fault: Fault, rate: f64) {
        self.0.lock()[fault as usize].rate = rate;
    }

    /// From now on nothing goes wrong by chance.
    pub fn calm(&self) {
        for kind in self.0.lock().iter_mut() {
            kind.rate = 0.0;
        }
    }

    /// Draws whether the fault happens to an operation; who draws counts it when it has happened.
    pub fn draw(&self, fault: Fault, random: &mut SplitMix) -> bool {
        let rate = self.0.lock()[fault as usize].rate;
        rate > 0.0 && random.chance(rate)
    }

    /// The fault has happened.
    pub fn count(&self, fault: Fault) {
        self.0.lock()[fault as usize].count += 1;
    }

    /// How often each kind has happened, in the order of [`Fault::ALL`].
    pub fn counts(&self) -> [u64; Fault::ALL.len()] {
        self.0.lock().map(|kind| kind.count)
    }
}
