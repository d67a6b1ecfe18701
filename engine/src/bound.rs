//! The bound: how fast a decode step could be, given what the links and the memory carry.
//!
//! W is what a step reads: the weights without embedding rows, and the KV at its position. What
//! the budget does not hold must come over the path, whatever the placement:
//! `need = max(0, W - budget)`. A token takes at least `max(need / paths, W / memory)`. With
//! experts the attention, shared parts and KV come first, and what is left of the budget holds
//! experts: the need is what a cache of that size misses in a replay of the run's own routing.
//! What is read in place has no path to come over: it is memory, and measured with it.

pub mod replay;
pub mod curve;
pub mod step;

use serde::Serialize;

/// Name of the fast tier as what sets a bound.
pub const MEMORY: &str = "dram";

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

impl Origin {
    const fn of(is_measured: bool) -> Self {
        if is_measured {
            Self::Measured
        } else {
            Self::Estimated
        }
    }
}

/// The mean of two probes, and whether they are near enough to say something.
fn agree(before: f64, after: f64) -> (f64, bool) {
    let mean = f64::midpoint(before, after);
    (mean, (before - after).abs() <= PROBES_APART * mean)
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
            (Some(before), Some(after)) => agree(before, after),
            (Some(one), None) | (None, Some(one)) => (one, false),
            (None, None) => (ORIGIN_GUESS, false),
        };
        let raw = Self {
            bytes_per_s,
            origin: Origin::of(is_measured),
        };
        match limit {
            Some(limit) if limit < raw.bytes_per_s => Self {
                bytes_per_s: limit,
                origin: Origin::Limit,
            },
            _ => raw,
        }
    }

    /// Probes before and after that are too far apart to say anything, and no limit that does.
    pub fn is_void(&self, before: Option<f64>, after: Option<f64>) -> bool {
        before.is_some() && after.is_some() && self.origin == Origin::Estimated
    }

    /// The bandwidth of the fast tier. One probe is a measurement too: of a run that waits for
    /// links memory is not the bound.
    pub fn memory(before: Option<f64>, after: Option<f64>) -> Self {
        let (bytes_per_s, is_measured) = match (before, after) {
            (Some(before), Some(after)) => agree(before, after),
            (Some(one), None) | (None, Some(one)) => (one, true),
            (None, None) => (MEMORY_GUESS, false),
        };
        Self {
            bytes_per_s,
            origin: Origin::of(is_measured),
        }
    }
}

/// A way into the fast tier.
#[derive(Clone, Debug)]
pub struct PathBound {
    /// Such as `origin>dram`.
    pub name: String,
    /// Beside the other paths, all of them full: on one host they share processors and memory.
    pub bandwidth: Bandwidth,
    /// While no other is read, in bytes per second.
    pub alone: f64,
    /// Bytes that its tier can hold; `u64::MAX` where it holds everything.
    pub capacity: u64,
}

/// What decode steps read, and what of it cannot be on the fast tier.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Weights that a step reads.
    pub weight_bytes: u64,
    /// Of those, what every step reads.
    pub dense_bytes: u64,
    /// KV of one token on all layers.
    pub kv_token_bytes: u64,
    pub budget: u64,
    /// Experts that the replay of a mean step misses, in bytes.
    pub missed_bytes: f64,
    /// What the budget does not hold is read in place: no path has to bring it.
    pub is_placed: bool,
}

impl Demand {
    /// W at a position.
    pub const fn read_bytes(&self, position: u64) -> u64 {
        self.weight_bytes + self.kv_token_bytes * position
    }

    /// Bytes that must come over the paths for the token at `position`.
    pub fn need_bytes(&self, position: u64) -> f64 {
        if self.is_placed {
            return 0.0;
        }
        let stays = self.dense_bytes + self.kv_token_bytes * position;
        stays.saturating_sub(self.budget) as f64 + self.missed_bytes
    }

    /// Bytes of the budget that are left to experts at `position`.
    pub const fn expert_room(&self, position: u64) -> u64 {
        self.budget
            .saturating_sub(self.dense_bytes + self.kv_token_bytes * position)
    }

    /// Tokens per second that nothing can beat over the tokens at `positions`, and the name of
    /// what sets it: a path or `dram`.
    pub fn bound(
        &self,
        positions: std::ops::Range<u64>,
        paths: &[PathBound],
        memory: Bandwidth,
    ) -> (f64, String) {
        let last = positions.end.max(positions.start + 1);
        let count = (last - positions.start) as f64;
        let (mut link, mut read) = (0.0, 0.0);
        for position in positions.start..last {
            link += link_seconds(self.need_bytes(position), paths);
            read += self.read_bytes(position) as f64 / memory.bytes_per_s;
        }
        let by = if link > read {
            let widest = paths
                .iter()
                .max_by(|a, b| a.bandwidth.bytes_per_s.total_cmp(&b.bandwidth.bytes_per_s));
            widest.map_or_else(|| MEMORY.to_owned(), |path| path.name.clone())
        } else {
            MEMORY.to_owned()
        };
        (count / link.max(read).max(1e-12), by)
    }
}

/// Shortest time in which the paths together bring `need` bytes: none brings more than it does by
/// itself and than its tier holds, all of them no more than they carry at once, or the best does by
/// itself.
pub fn link_seconds(need: f64, paths: &[PathBound]) -> f64 {
    let best = paths.iter().map(|path| path.alone).fold(0.0, f64::max);
    let least = if need > 0.0 {
        need / at_once(paths).max(best)
    } else {
        0.0
    };
    seconds_apart(need, paths).max(least)
}

/// Bytes per second of all paths, all of them full.
pub fn at_once(paths: &[PathBound]) -> f64 {
    paths.iter().map(|path| path.bandwidth.bytes_per_s).sum()
}

/// As if no path knew of the others: all run until they are out of bytes.
fn seconds_apart(need: f64, paths: &[PathBound]) -> f64 {
    let mut open: Vec<&PathBound> = paths.iter().collect();
    let dry_at = |path: &PathBound| path.capacity as f64 / path.alone;
    open.sort_by(|a, b| dry_at(a).total_cmp(&dry_at(b)));
    let (mut left, mut now) = (need, 0.0);
    while !open.is_empty() {
        let together: f64 = open.iter().map(|path| path.alone).sum();
        let first_dry = dry_at(open[0]);
        if left <= together * (first_dry - now) {
            return now + left / together;
        }
        left -= together * (first_dry - now);
        now = first_dry;
        open.remove(0);
    }
    if left > 0.0 { f64::INFINITY } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_link_and_memory_sets_the_bound() {
        let step = Demand {
            weight_bytes: 1000,
            dense_bytes: 1000,
            kv_token_bytes: 10,
            budget: 600,
            missed_bytes: 0.0,
            is_placed: false,
        };
        assert_eq!((step.read_bytes(5), step.need_bytes(5)), (1050, 450.0));
        let path = |bytes_per_s, capacity| PathBound {
            name: "origin>dram".to_owned(),
            bandwidth: Bandwidth {
                bytes_per_s,
                origin: Origin::Measured,
            },
            alone: bytes_per_s,
            capacity,
        };
        let origin = [path(100.0, u64::MAX)];
        let memory = Bandwidth {
            bytes_per_s: 10_000.0,
            origin: Origin::Measured,
        };
        let (speed, by) = step.bound(5..6, &origin, memory);
        assert!((speed - 1.0 / 4.5).abs() < 1e-9 && by == "origin>dram");
        let all = Demand {
            budget: 5000,
            ..step
        };
        let (speed, by) = all.bound(5..6, &origin, memory);
        assert!((speed - 10_000.0 / 1050.0).abs() < 1e-9 && by == MEMORY);
        let placed = Demand {
            is_placed: true,
            missed_bytes: 70.0,
            ..step
        };
        let (speed, by) = placed.bound(5..6, &origin, memory);
        assert!((speed - 10_000.0 / 1050.0).abs() < 1e-9 && by == MEMORY);
    }

    #[test]
    fn paths_share_the_need_as_far_as_their_tiers_hold_it() {
        let path = |alone, capacity| shared(alone, alone, capacity);
        let both = [path(100.0, u64::MAX), path(300.0, u64::MAX)];
        assert!((link_seconds(800.0, &both) - 2.0).abs() < 1e-9);
        let small = [path(100.0, u64::MAX), path(300.0, 300)];
        // One second together, then the slow one alone.
        assert!((link_seconds(800.0, &small) - 5.0).abs() < 1e-9);
        assert!(link_seconds(1.0, &[]).is_infinite());
        assert_eq!(link_seconds(0.0, &[]), 0.0);
    }

    /// A path that carries less beside the others.
    fn shared(alone: f64, bytes_per_s: f64, capacity: u64) -> PathBound {
        PathBound {
            name: String::new(),
            bandwidth: Bandwidth {
                bytes_per_s,
                origin: Origin::Measured,
            },
            alone,
            capacity,
        }
    }

    #[test]
    fn paths_bring_no_more_than_they_carry_at_once() {
        let both = [
            shared(300.0, 150.0, u64::MAX),
            shared(200.0, 190.0, u64::MAX),
        ];
        assert!((link_seconds(680.0, &both) - 2.0).abs() < 1e-9);
        // More at once than the sum of what each does alone changes nothing.
        let better = [
            shared(300.0, 320.0, u64::MAX),
            shared(200.0, 210.0, u64::MAX),
        ];
        assert!((link_seconds(1000.0, &better) - 2.0).abs() < 1e-9);
        // Where they only disturb each other, the best of them could do it alone.
        let worse = [
            shared(300.0, 100.0, u64::MAX),
            shared(200.0, 100.0, u64::MAX),
        ];
        assert!((link_seconds(600.0, &worse) - 2.0).abs() < 1e-9);
        // Once the second is dry, the first goes on by itself, with all that it can.
        let small = [shared(300.0, 150.0, u64::MAX), shared(200.0, 190.0, 20)];
        assert!((link_seconds(920.0, &small) - 3.0).abs() < 1e-9);
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
        assert!(!agree.is_void(Some(1e9), Some(1.05e9)));
        let apart = Bandwidth::origin(Some(1e9), Some(1.2e9), None);
        assert!(apart.is_void(Some(1e9), Some(1.2e9)) && !apart.is_void(Some(1e9), None));
        assert_eq!(
            (apart.bytes_per_s, apart.origin),
            (1.1e9, Origin::Estimated)
        );
        assert_eq!(
            Bandwidth::origin(Some(1e9), None, None).origin,
            Origin::Estimated
        );
    }

    #[test]
    fn memory_is_measured_once_or_twice_alike() {
        let once = Bandwidth::memory(None, Some(5e10));
        assert_eq!((once.bytes_per_s, once.origin), (5e10, Origin::Measured));
        let twice = Bandwidth::memory(Some(4.8e10), Some(5e10));
        assert_eq!(
            (twice.bytes_per_s, twice.origin),
            (4.9e10, Origin::Measured)
        );
        let apart = Bandwidth::memory(Some(4e10), Some(5e10));
        assert_eq!(apart.origin, Origin::Estimated);
        assert!(apart.is_void(Some(4e10), Some(5e10)) && !once.is_void(None, Some(5e10)));
        assert_eq!(Bandwidth::memory(None, None).origin, Origin::Estimated);
    }
}
