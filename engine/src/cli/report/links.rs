//! What the paths carry, out of the probes before and after a run.
//!
//! Of paths that were probed at once the sum has to agree: how they share the host's processors and
//! memory differs from one time to the next, what they bring together is what the run has.

use crate::bound::{Bandwidth, MEMORY, Origin, PathBound};
use crate::session::{Carried, Inward};
use larder_pool::units::BytesPerSec;

/// What was probed of a path before and after.
type Pair = (Option<f64>, Option<f64>);

fn pair(before: &[Option<f64>], after: &[Option<f64>], n: usize) -> Pair {
    let of = |rates: &[Option<f64>]| rates.get(n).copied().flatten();
    (of(before), of(after))
}

/// Of all paths that were probed at once.
fn sums(before: &Carried, after: &Carried) -> Pair {
    let sum = |carried: &Carried| {
        carried
            .at_once
            .iter()
            .flatten()
            .copied()
            .reduce(|a, b| a + b)
    };
    (sum(before), sum(after))
}

/// Bandwidth of every path into the fast tier.
pub(in crate::cli) fn path_bounds(
    inward: &[Inward],
    before: &Carried,
    after: &Carried,
) -> Vec<PathBound> {
    let sums = sums(before, after);
    let origin = Bandwidth::origin(sums.0, sums.1, None).origin;
    let bounds = inward.iter().enumerate().map(|(n, path)| {
        let alone = pair(&before.alone, &after.alone, n);
        let limit = path.limit.map(BytesPerSec::get);
        let alone = Bandwidth::origin(alone.0, alone.1, limit);
        let bandwidth = match pair(&before.at_once, &after.at_once, n) {
            (None, None) => alone,
            (before, after) => Bandwidth {
                origin,
                ..Bandwidth::origin(before, after, limit)
            },
        };
        PathBound {
            name: path.name.clone(),
            bandwidth,
            alone: alone.bytes_per_s,
            capacity: path.capacity,
        }
    });
    bounds.collect()
}

/// A link changed between the probes.
pub(super) fn have_changed(paths: &[PathBound], before: &Carried, after: &Carried) -> bool {
    let mut paths = paths.iter().enumerate();
    paths.any(|(n, path)| {
        let probed = match pair(&before.at_once, &after.at_once, n) {
            (None, None) => pair(&before.alone, &after.alone, n),
            at_once => at_once,
        };
        path.bandwidth.is_void(probed.0, probed.1)
    })
}

/// Whether a bound that `by` sets stands on what was not measured.
pub(in crate::cli) fn is_estimated(by: &str, paths: &[PathBound], memory: Bandwidth) -> bool {
    if by == MEMORY {
        return memory.origin == Origin::Estimated;
    }
    let mut paths = paths.iter();
    paths.any(|path| path.bandwidth.origin == Origin::Estimated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_pool::units::PathId;

    fn inward(limits: [Option<f64>; 2]) -> Vec<Inward> {
        let paths = limits.into_iter().enumerate().map(|(n, limit)| Inward {
            path: PathId::new(n),
            name: n.to_string(),
            driver: "",
            limit: limit.and_then(BytesPerSec::new),
            capacity: u64::MAX,
        });
        paths.collect()
    }

    fn carried(alone: [f64; 2], at_once: Option<[f64; 2]>) -> Carried {
        let rates = |rates: [f64; 2]| rates.map(Some).to_vec();
        Carried {
            alone: rates(alone),
            at_once: at_once.map_or_else(Vec::new, rates),
            ..Carried::default()
        }
    }

    #[test]
    fn of_paths_at_once_the_sum_has_to_agree() {
        let before = carried([6e9, 3e9], Some([3e9, 2e9]));
        let after = carried([5e9, 2e9], Some([2e9, 3.2e9]));
        let paths = path_bounds(&inward([None; 2]), &before, &after);
        let found: Vec<_> = paths
            .iter()
            .map(|path| {
                (
                    path.bandwidth.bytes_per_s,
                    path.bandwidth.origin,
                    path.alone,
                )
            })
            .collect();
        let is = Origin::Measured;
        assert_eq!(found, [(2.5e9, is, 5.5e9), (2.6e9, is, 2.5e9)]);
        assert!(!have_changed(&paths, &before, &after));

        let slower = carried([5e9, 2e9], Some([2e9, 2e9]));
        let paths = path_bounds(&inward([None; 2]), &before, &slower);
        assert!(have_changed(&paths, &before, &slower));
        let memory = Bandwidth::memory(None, Some(1e10));
        assert!(is_estimated("0", &paths, memory) && !is_estimated(MEMORY, &paths, memory));
        // A plan has no probe behind it: nothing changed, but it is no measurement either.
        let none = Carried::default();
        let paths = path_bounds(&inward([None; 2]), &before, &none);
        assert!(!have_changed(&paths, &before, &none) && is_estimated("0", &paths, memory));
    }

    #[test]
    fn where_nothing_was_probed_at_once_each_path_counts_by_itself() {
        let (before, after) = (carried([6e9, 3e9], None), carried([6.1e9, 2e9], None));
        let paths = path_bounds(&inward([None; 2]), &before, &after);
        assert_eq!(paths[0].bandwidth.origin, Origin::Measured);
        assert!(have_changed(&paths, &before, &after));
        let paths = path_bounds(&inward([None, Some(1e9)]), &before, &after);
        assert_eq!(paths[1].bandwidth.origin, Origin::Limit);
        assert_eq!((paths[1].bandwidth.bytes_per_s, paths[1].alone), (1e9, 1e9));
        assert!(!have_changed(&paths, &before, &after));
    }
}
