//! One run under a budget, and what it must keep.

use crate::case::{Budget, Setting, Subject};
use crate::child::{Outcome, run};
use crate::group::Group;
use serde_json::Value;
use std::path::Path;

/// What a process may take beside its budget: code, tokenizer, tables, stacks, staging, scratch.
const BESIDE: u64 = 200 << 20;
/// From this size on a budget is used to this share; below, all but a block.
const SHARED_FROM: u64 = 256 << 20;
const SHARE: f64 = 0.97;
/// What stands beside the budget is the same for every budget and context, save this: a quarter of
/// the weights, but no less and no more than these bytes.
const GROWTH: (u64, u64) = (4 << 20, 32 << 20);

/// A run that was made.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) budget: u64,
    /// Of the process: the budget and what is allowed beside it.
    pub(crate) limit: u64,
    pub(crate) outcome: Outcome,
    /// What it did not keep.
    pub(crate) broken: Vec<String>,
}

/// Where runs are made.
pub(crate) struct Ground<'a> {
    pub(crate) larder: &'a Path,
    pub(crate) folder: &'a Path,
    /// Whether groups can be had.
    pub(crate) has_groups: bool,
    /// Groups that were made, which have names by it.
    pub(crate) groups: usize,
}

impl Ground<'_> {
    /// A command of larder, and what it must print.
    pub(crate) fn json(&self, arguments: &[String]) -> Result<Value, String> {
        let outcome = run(self.larder, arguments, self.folder, None);
        outcome.report.ok_or(outcome.said)
    }

    /// A run of `subject` with `budget` bytes, in a group with `limit` if groups can be had.
    pub(crate) fn run(
        &mut self,
        (subject, setting): (&Subject, Setting),
        budget: Option<u64>,
        limit: u64,
    ) -> Result<Outcome, String> {
        // What a run before left there would be taken for its own.
        let _ = std::fs::remove_dir_all(self.folder.join("spill"));
        let mut arguments = command("run", subject);
        arguments.extend(setting.text(subject));
        arguments.extend(setting.engine(subject));
        if let Some(budget) = budget {
            arguments.extend(["--fast".to_owned(), budget.to_string()]);
        }
        self.groups += 1;
        let group = match budget.filter(|_| self.has_groups) {
            Some(_) => Some(Group::new(self.groups, limit)?),
            None => None,
        };
        Ok(run(self.larder, &arguments, self.folder, group.as_ref()))
    }

    /// As above, and what it did not keep; `free` has the ids of the run without a budget.
    pub(crate) fn try_out(
        &mut self,
        (subject, setting): (&Subject, Setting),
        (share, budget): (Budget, u64),
        free: &Value,
    ) -> Result<Trial, String> {
        let limit = budget + BESIDE;
        let outcome = self.run((subject, setting), Some(budget), limit)?;
        let mut broken = judge(&outcome, budget, limit, free);
        if let Some(report) = &outcome.report {
            broken.extend(judge_use(report, subject, (share, budget)));
            let spilled = report["bytes_moved"]["dram>nvme"].as_u64().unwrap_or(0);
            if setting.has_spill && share == Budget::Smallest && spilled == 0 {
                broken.push("no KV has left for its tier".to_owned());
            }
        }
        Ok(Trial {
            budget,
            limit,
            outcome,
            broken,
        })
    }
}

/// A command of larder for `subject` that prints JSON.
pub(crate) fn command(name: &str, subject: &Subject) -> Vec<String> {
    let path = subject.path.to_string_lossy().into_owned();
    vec![name.to_owned(), path, "--json".to_owned()]
}

/// What a run with `budget` bytes did not keep of it, of the `limit` of its process, and of the
/// ids in `free`.
pub(crate) fn judge(outcome: &Outcome, budget: u64, limit: u64, free: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let mut most = |what: &str, bytes: Option<u64>, most: u64| {
        if let Some(bytes) = bytes.filter(|bytes| *bytes > most) {
            broken.push(format!("{what} {bytes} is more than {most}"));
        }
    };
    let counted = outcome.counted;
    most(
        "peak of the group",
        counted.and_then(|counted| counted.peak),
        limit,
    );
    most("VmHWM", Some(outcome.resident), limit);
    let report = outcome.report.as_ref();
    let of = |key: &str| report.and_then(|report| report[key].as_u64());
    most("fast_bytes", of("fast_bytes"), budget);
    most("peak_bytes", of("peak_bytes"), limit);
    let through_cache = report.is_some_and(is_cached);
    if let Some(counted) = counted {
        // Where files have no direct reads the cache of their pages fills any group; it gives way.
        if counted.hits > 0 && !through_cache {
            broken.push(format!("the limit was in the way {} times", counted.hits));
        }
        if counted.kills > 0 {
            broken.push(format!("{} processes killed for memory", counted.kills));
        }
    }
    match report {
        None => broken.push(format!("it failed: {}", outcome.said)),
        Some(report) if report["tokens"] != free["tokens"] => {
            broken.push("other ids than without a budget".to_owned());
        }
        Some(_) => {}
    }
    broken
}

/// What of its budget a run left unused.
fn judge_use(report: &Value, subject: &Subject, (share, budget): (Budget, u64)) -> Vec<String> {
    let fast = report["fast_bytes"].as_u64().unwrap_or(0);
    let least = if share == Budget::All {
        // All weights are there; KV only as far as the text goes.
        subject.weight_bytes.min(budget)
    } else if budget >= SHARED_FROM {
        (budget as f64 * SHARE) as u64
    } else {
        budget.saturating_sub(subject.block_bytes)
    };
    let mut broken = Vec::new();
    if fast < least {
        broken.push(format!("fast_bytes {fast} is less than {least}"));
    }
    broken
}

impl Trial {
    /// Bytes that the process had of its own beside its budget.
    pub(crate) fn beside(&self) -> Option<u64> {
        let peak = self.outcome.report.as_ref()?["peak_bytes"].as_u64()?;
        Some(peak.saturating_sub(self.budget))
    }

    /// Holds what stands beside the budget against the least of the runs so far of `subject`.
    pub(crate) fn judge_beside(&mut self, subject: &Subject, least: &mut Option<u64>) {
        let Some(beside) = self.beside() else { return };
        let first = *least.get_or_insert(beside);
        *least = Some(first.min(beside));
        let growth = (subject.weight_bytes / 4).clamp(GROWTH.0, GROWTH.1);
        if beside > first + growth {
            let told = format!("{beside} bytes beside the budget, {first} beside another");
            self.broken.push(told);
        }
    }
}

/// Whether a run says that its files are read through the page cache.
fn is_cached(report: &Value) -> bool {
    let notes = report["notes"].as_array().into_iter().flatten();
    let mut notes = notes.filter_map(Value::as_str);
    notes.any(|note| note.contains("through the page cache"))
}

/// Whether the fast tier is on pages that no memory cgroup counts.
pub(crate) fn is_uncounted(report: &Value) -> bool {
    let notes = report["notes"].as_array().into_iter().flatten();
    let mut notes = notes.filter_map(Value::as_str);
    notes.any(|note| note.contains("fast tier on") && note.contains("hugetlb"))
}
