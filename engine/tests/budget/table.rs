//! The rows of `cargo xtask budget`.

use crate::case::{Setting, Subject};
use crate::trial::Trial;
use serde_json::Value;

pub(crate) const HEAD: &str = "\
| model | KV | context | tier | budget | bytes | used | beside it | VmHWM | group peak | limit | hits, kills | moved | |
|---|---|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|";

/// A size in MiB.
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// A row, whose last column says what was broken.
pub(crate) fn row((subject, setting): (&Subject, Setting), share: &str, trial: &Trial) -> String {
    let outcome = &trial.outcome;
    let report = outcome.report.as_ref();
    let of = |key: &str| report.and_then(|report| report[key].as_u64());
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let used = of("fast_bytes").map(|fast| format!("{:.3}", fast as f64 / trial.budget as f64));
    let beside = trial.beside().map(mib);
    let counted = outcome.counted;
    let counts = counted.map(|counted| format!("{}, {}", counted.hits, counted.kills));
    let peak = counted.and_then(|counted| counted.peak).map(mib);
    let moved = report.and_then(|report| report["bytes_moved"].as_object());
    let moved = moved.map(|moved| mib(moved.values().filter_map(Value::as_u64).sum()));
    let verdict = if trial.broken.is_empty() {
        if report.is_some() {
            "kept"
        } else {
            "stopped, as it should be"
        }
        .to_owned()
    } else {
        format!("BROKEN: {}", trial.broken.join("; ")).replace('|', "/")
    };
    let columns = [
        subject.name.clone(),
        setting.kv.to_owned(),
        setting.context(subject).to_string(),
        if setting.has_spill { "nvme" } else { "-" }.to_owned(),
        share.to_owned(),
        trial.budget.to_string(),
        dash(used),
        dash(beside),
        mib(outcome.resident),
        dash(peak),
        mib(trial.limit),
        dash(counts),
        dash(moved),
        verdict,
    ];
    format!("| {} |", columns.join(" | "))
}
