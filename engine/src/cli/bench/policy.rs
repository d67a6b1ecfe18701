//! `larder bench policy`: who leaves a cache, judged on traces by what comes back.

mod plot;
mod traces;

mod generated;

use crate::cli::error::CliError;
use crate::cli::options::PolicyOptions;
use crate::cli::table::print;
use larder_pool::policy::replay::{Uses, misses};
use larder_pool::policy::{Arc, Belady, Lfu, Lru, Policy, S3Fifo, Value};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::Write as _;
use traces::Trace;

/// In the order of the columns; the last is the optimum.
const POLICIES: [&str; 6] = ["lru", "lfu", "arc", "s3-fifo", "value", "belady"];
const LRU: usize = 0;
const OURS: usize = 4;
const BEST: usize = 5;

/// What `bench policy --json` prints.
#[derive(Debug, Serialize)]
struct PolicyReport {
    policies: [&'static str; 6],
    traces: Vec<TraceReport>,
}

/// One trace at each size of the cache.
#[derive(Debug, Serialize)]
struct TraceReport {
    trace: String,
    /// Blocks that are used, and uses that count: those behind the warming ones.
    blocks: usize,
    uses: u64,
    sizes: Vec<SizeReport>,
}

#[derive(Debug, Serialize)]
struct SizeReport {
    share: f64,
    slots: usize,
    misses: [u64; 6],
    /// (lru - value) / (lru - belady); `None` where lru is the optimum.
    gap_closed: Option<f64>,
}

pub(super) fn policy(options: &PolicyOptions) -> Result<(), CliError> {
    let shares = options.share.iter().map(|text| parse_share(text));
    let shares = shares
        .collect::<Result<Vec<f64>, String>>()
        .map_err(CliError::Usage)?;
    let mut traces = traces::read(&options.traces)?;
    if !options.no_generated {
        traces.extend(generated::all(options.seed));
    }
    let report = PolicyReport {
        policies: POLICIES,
        traces: traces.iter().map(|trace| replay(trace, &shares)).collect(),
    };
    if let Some(path) = &options.plot {
        let drawn = plot::svg(&report);
        std::fs::write(path, drawn).map_err(|source| CliError::File {
            path: path.clone(),
            source,
        })?;
    }
    print(options.json, &report, || text(&report))
}

/// A share of `1/4`, `0.25` or `25%`.
fn parse_share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let share = if let Some((above, below)) = text.split_once('/') {
        number(above)
            .zip(number(below))
            .map(|(above, below)| above / below)
    } else if let Some(percent) = text.strip_suffix('%') {
        number(percent).map(|percent| percent / 100.0)
    } else {
        number(text)
    };
    let share = share.filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| format!("--share {text}: give a share such as 1/4, 0.25 or 25%"))
}

fn replay(trace: &Trace, shares: &[f64]) -> TraceReport {
    let blocks = trace.uses.iter().collect::<HashSet<_>>().len();
    let sizes = shares.iter().map(|&share| {
        let slots = ((blocks as f64 * share) as usize).max(1);
        let uses = Uses {
            blocks: &trace.uses,
            told: &trace.told,
            warming: trace.warming,
        };
        let found = policies(trace).map(|mut policy| misses(policy.as_mut(), uses, slots));
        let gap = found[LRU] as f64 - found[BEST] as f64;
        let closed = found[LRU] as f64 - found[OURS] as f64;
        SizeReport {
            share,
            slots,
            misses: found,
            gap_closed: (gap > 0.0).then(|| closed / gap),
        }
    });
    TraceReport {
        trace: trace.name.clone(),
        blocks,
        uses: (trace.uses.len() - trace.warming) as u64,
        sizes: sizes.collect(),
    }
}

/// One of each, new.
fn policies(trace: &Trace) -> [Box<dyn Policy>; 6] {
    let value = if trace.told.is_empty() {
        Value::default()
    } else {
        Value::of_prompts()
    };
    [
        Box::new(Lru::default()),
        Box::new(Lfu::default()),
        Box::new(Arc::default()),
        Box::new(S3Fifo::default()),
        Box::new(value),
        Box::new(Belady::new(&trace.uses)),
    ]
}

/// A row per trace and size: the share of uses that miss, and what of the gap is closed.
fn text(report: &PolicyReport) -> String {
    let width = report
        .traces
        .iter()
        .map(|trace| trace.trace.chars().count())
        .max();
    let width = width.unwrap_or(0).max("trace".len());
    let mut text = format!("{:width$}  {:>7} {:>6}", "trace", "slots", "share");
    for name in POLICIES {
        let _ = write!(text, " {name:>8}");
    }
    text.push_str("  closed\n");
    for trace in &report.traces {
        for size in &trace.sizes {
            let share = size.share * 100.0;
            let _ = write!(
                text,
                "{:width$}  {:>7} {share:>5.1}%",
                trace.trace, size.slots
            );
            for misses in size.misses {
                let share = misses as f64 / trace.uses.max(1) as f64 * 100.0;
                let _ = write!(text, " {share:>7.2}%");
            }
            let closed = size
                .gap_closed
                .map_or("-".to_owned(), |gap| format!("{gap:.2}"));
            let _ = writeln!(text, "  {closed:>6}");
        }
    }
    text.push_str(
        "columns: uses that miss; closed: (lru - value) / (lru - belady), what value closes of \
         the gap\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_pool::units::BlockId;

    #[test]
    fn shares_are_read() {
        for text in ["1/4", "0.25", "25%", " 1 / 4 "] {
            assert_eq!(parse_share(text), Ok(0.25), "{text}");
        }
        for text in ["", "0", "2", "1/0", "-1/4", "x", "NaN"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_the_policies() {
        let trace = Trace::default();
        assert_eq!(policies(&trace).map(|policy| policy.name()), POLICIES);
    }

    #[test]
    fn a_scan_is_judged() {
        let uses: Vec<BlockId> = (0..9000).map(|at| BlockId::new(at % 90)).collect();
        let trace = Trace {
            name: "scan".to_owned(),
            uses,
            told: Vec::new(),
            warming: 90,
        };
        let report = replay(&trace, &[0.5]);
        let size = &report.sizes[0];
        assert_eq!((report.blocks, size.slots), (90, 45));
        assert_eq!(size.misses[LRU], report.uses);
        assert!(size.gap_closed > Some(0.8), "{size:?}");
        let report = PolicyReport {
            policies: POLICIES,
            traces: vec![report],
        };
        assert!(text(&report).contains("100.00%"));
        assert!(plot::svg(&report).contains("scan"));
    }
}
