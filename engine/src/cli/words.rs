//! What the reports of `run`, `plan` and `bench` say alike, each in one form.

use super::size::{memory, rate};
use crate::session::Session;
use std::path::Path;

/// What runs, in one line.
pub(super) fn headline(model: &Path, session: &Session) -> String {
    let resolved = session.resolved();
    format!(
        "{}: {} in a fast tier of {}, context {}",
        model.display(),
        memory(session.manifest().weight_bytes()),
        memory(resolved.budget),
        resolved.context
    )
}

/// A speed that nothing could beat, and what sets it.
pub(super) fn bound(speed: &str, by: &str, is_estimated: bool) -> String {
    let estimated = if is_estimated { ", estimated" } else { "" };
    format!("{speed} by {by}{estimated}")
}

/// The fast tier, what was in use of it if something ran, and the weights it stands against.
pub(super) fn fast_tier(used: Option<u64>, budget: u64, weights: u64) -> String {
    let (budget, weights) = (memory(budget), memory(weights));
    let of = match used {
        Some(used) => format!("{} of {budget}", memory(used)),
        None => budget,
    };
    format!("{of} for {weights} of weights")
}

/// What a path carries while decoding; `None` if that is nothing.
pub(super) fn while_decoding(mb_s: f64) -> Option<String> {
    (mb_s > 0.0).then(|| format!("{} while decoding", rate(mb_s * 1e6)))
}

/// Weights that are not moved.
pub(super) fn in_place(bytes: u64) -> String {
    format!("{} read in the node's memory", memory(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_or_nothing_is_not_said() {
        assert_eq!(bound("2.00 tok/s", "dram", false), "2.00 tok/s by dram");
        let guess = bound("2.00 tok/s", "dram", true);
        assert_eq!(guess, "2.00 tok/s by dram, estimated");
        let (budget, weights) = (1 << 20, 3 << 20);
        let planned = fast_tier(None, budget, weights);
        assert_eq!(planned, "1.0 MiB for 3.0 MiB of weights");
        let ran = fast_tier(Some(512 << 10), budget, weights);
        assert_eq!(ran, "512.0 KiB of 1.0 MiB for 3.0 MiB of weights");
        let link = while_decoding(20.0);
        assert_eq!(link.as_deref(), Some("20.0 MB/s while decoding"));
        assert_eq!(while_decoding(0.0), None);
    }
}
