//! One registry of newtypes: ids, counts and units that must not be mixed up.
//!
//! Private fields, checked constructors, only arithmetic that means something. To add one, keep
//! the file alphabetical within its section and say what the value counts.

use std::fmt;

pub use larder_sys::space::GRANULE;

/// The golden ratio's fraction: its multiples, without their whole part, are spread evenly.
pub const GOLDEN: f64 = 0.618_033_988_749_895;

/// Tokens in one KV slice.
pub const SLICE_TOKENS: usize = 64;

/// Index of a block in the block table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u32);

impl BlockId {
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Position in a slice that has one element per block.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.0)
    }
}

/// Index of a path among those of a mover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(usize);

impl PathId {
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// Position in a slice that has one element per path.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// Number of a prompt among those of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromptId(u64);

impl PromptId {
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A rate of a link or a limit, in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct BytesPerSec(f64);

impl BytesPerSec {
    /// A rate; `None` unless `rate` is finite and above zero.
    pub fn new(rate: f64) -> Option<Self> {
        (rate.is_finite() && rate > 0.0).then_some(Self(rate))
    }

    pub const fn get(self) -> f64 {
        self.0
    }

    /// Seconds that `bytes` take at this rate.
    pub fn seconds_for(self, bytes: u64) -> f64 {
        bytes as f64 / self.0
    }

    /// The slower of two rates.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

/// A point on the engine's clock, in nanoseconds since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(u64);

impl Nanos {
    pub const fn new(ns: u64) -> Self {
        Self(ns)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` to here, zero if the order is reversed.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
