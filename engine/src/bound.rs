//! The bound: how fast a decode step could be, given what the links and the memory carry.
//!
//! W is what a step reads: the weights without embedding rows, and the KV at its position. What
//! the budget does not hold must come over the path, whatever the placement:
//! `need = max(0, W - budget)`. A token takes at least `max(need / path, W / memory)`.

use serde::Serialize;

/// Bandwidth assumed where nothing was measured, in bytes per second.
const ORIGIN_GUESS: f64 = 1e9;
const MEMORY_GUESS: f64 = 20e9;

/// Probes before and after a run that differ by more than this share say nothing.
const PROBES_APART: f64 = 0.10;

/// Where a bandwidth comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Read from the model's own extents in this run.
    Measured,
    /// The limit the tier was given, which is lower than what the link could.
    Limit,
    /// A guess: the model or the run is too small to measure.
    Estimated,
}

/// A bandwidth in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bandwidth {
    pub bytes_per_s: f64,
    pub origin: Origin,
}

impl Bandwidth {
    /// The bandwidth of the path from the model files. Probes before and after a run that agree
    /// make a measurement, anything less an estimate; a limit caps both.
    pub fn origin(before: Option<f64>, after: Option<f64>, limit: Option<f64>) -> Self {
        let (bytes_per_s, is_measured) = match (before, after) {
            (Some(before), Some(after)) => {
                let mean = f64::midpoint(before, after);
                (mean, (before - after).abs() <= PROBES_APART * mean)
            }
            (Some(one), None) | (None, Some(one)) => (one, false),
            (None, None) => (ORIGIN_GUESS, false),
        };
        let origin = if is_measured {
            Origin::Measured
        } else {
            Origin::Estimated
        };
        let raw = Self {
            bytes_per_s,
            origin,
        };
        match limit {
            Some(limit) if limit < raw.bytes_per_s => Self {
                bytes_per_s: limit,
                origin: Origin::Limit,
            },
            _ => raw,
        }
    }

    /// The bandwidth of the fast tier.
    pub fn memory(measured: Option<f64>) -> Self {
        match measured {
            Some(bytes_per_s) => Self {
                bytes_per_s,
                origin: Origin::Measured,
            },
            None => Self {
                bytes_per_s: MEMORY_GUESS,
                origin: Origin::Estimated,
            },
        }
    }
}

/// What sets the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BoundBy {
    #[serde(rename = "origin>dram")]
    Origin,
    #[serde(rename = "dram")]
    Memory,
}

impl BoundBy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin>dram",
            Self::Memory => "dram",
        }
    }
}

/// What a decode step of a dense model reads.
#[derive(Clone, Copy, Debug)]
pub struct DenseStep {
    /// Weights that a step reads.
    pub weight_bytes: u64,
    /// KV of one token on all layers.
    pub kv_token_bytes: u64,
    pub budget: u64,
}

impl DenseStep {
    /// W at a position.
    pub const fn read_bytes(&self, position: u64) -> u64 {
        self.weight_bytes + self.kv_token_bytes * position
    }

    /// Bytes that must come over the path for the token at `position`.
    pub const fn need_bytes(&self, position: u64) -> u64 {
        self.read_bytes(position).saturating_sub(self.budget)
    }

    /// Tokens per second that nothing can beat over the tokens at `positions`, and what sets it.
    pub fn bound(
        &self,
        positions: std::ops::Range<u64>,
        origin: Bandwidth,
        memory: Bandwidth,
    ) -> (f64, BoundBy) {
        let count = (positions.end - positions.start).max(1) as f64;
        let (mut link, mut read) = (0.0, 0.0);
        for position in positions.start..positions.end.max(positions.start + 1) {
            link += self.need_bytes(position) as f64 / origin.bytes_per_s;
            read += self.read_bytes(position) as f64 / memory.bytes_per_s;
        }
        let by = if link > read {
            BoundBy::Origin
        } else {
            BoundBy::Memory
        };
        (count / link.max(read).max(1e-12), by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_link_and_memory_sets_the_bound() {
        let step = DenseStep {
            weight_bytes: 1000,
            kv_token_bytes: 10,
            budget: 600,
        };
        assert_eq!((step.read_bytes(5), step.need_bytes(5)), (1050, 450));
        let origin = Bandwidth {
            bytes_per_s: 100.0,
            origin: Origin::Measured,
        };
        let memory = Bandwidth {
            bytes_per_s: 10_000.0,
            origin: Origin::Measured,
        };
        let (speed, by) = step.bound(5..6, origin, memory);
        assert!((speed - 1.0 / 4.5).abs() < 1e-9 && by == BoundBy::Origin);
        let all = DenseStep {
            budget: 5000,
            ..step
        };
        let (speed, by) = all.bound(5..6, origin, memory);
        assert!((speed - 10_000.0 / 1050.0).abs() < 1e-9 && by == BoundBy::Memory);
    }

    #[test]
    fn a_limit_caps_and_far_probes_are_void() {
        let limited = Bandwidth::origin(Some(1e9), Some(1e9), Some(20e6));
        assert_eq!((limited.bytes_per_s, limited.origin), (20e6, Origin::Limit));
        assert_eq!(
            Bandwidth::origin(None, None, None).origin,
            Origin::Estimated
        );
        let agree = Bandwidth::origin(Some(1e9), Some(1.05e9), Some(2e9));
        assert_eq!(
            (agree.bytes_per_s, agree.origin),
            (1.025e9, Origin::Measured)
        );
        let apart = Bandwidth::origin(Some(1e9), Some(1.2e9), None);
        assert_eq!(
            (apart.bytes_per_s, apart.origin),
            (1.1e9, Origin::Estimated)
        );
        assert_eq!(
            Bandwidth::origin(Some(1e9), None, None).origin,
            Origin::Estimated
        );
    }
}
