//! `larder plan`: what will live where, and the speed that allows, without running.

use super::error::CliError;
use super::options::PlanOptions;
use super::prompt::OpenModel;
use super::report::{PROBED_BYTES, demand, notes};
use super::size::{memory, rate};
use super::table::{Table, print, width};
use crate::bound::{Bandwidth, Demand, PathBound};
use crate::session::{Session, SessionError};
use serde::Serialize;

/// Tokens behind the prompt whose mean the bound is, at most.
const HORIZON: usize = 256;

/// What one tier holds.
#[derive(Debug, Serialize)]
struct TierPlan {
    name: &'static str,
    bytes: u64,
    fixed_bytes: u64,
    ring_bytes: u64,
    work_bytes: u64,
    kv_bytes: u64,
}

#[derive(Debug, Serialize)]
struct PathPlan {
    name: &'static str,
    #[serde(flatten)]
    bandwidth: Bandwidth,
    bytes_per_token: u64,
}

/// What `plan --json` prints.
#[derive(Debug, Serialize)]
struct PlanReport {
    weight_bytes: u64,
    min_fast_bytes: u64,
    fast_bytes: u64,
    kv_bytes: u64,
    context: usize,
    kv_type: &'static str,
    tiers: Vec<TierPlan>,
    paths: Vec<PathPlan>,
    /// Passes over the streamed weights for a prompt that fills the context.
    prefill_passes: usize,
    bound_tok_s: f64,
    bound_by: String,
    notes: Vec<String>,
}

pub(super) fn plan(options: &PlanOptions) -> Result<(), CliError> {
    let engine = options.engine.resolve()?;
    let mut session = OpenModel::open(&options.model, &engine)?.session(&engine)?;
    let report = make(&mut session)?;
    print(options.json, &report, || table(&report).render(width()))
}

fn make(session: &mut Session) -> Result<PlanReport, SessionError> {
    let probe = if session.manifest().weight_bytes() >= PROBED_BYTES {
        Some(session.probe_origin()?)
    } else {
        None
    };
    let limit = session
        .resolved()
        .origin_limit
        .map(larder_pool::units::BytesPerSec::get);
    let origin = Bandwidth::origin(probe, None, limit);
    let memory = Bandwidth::memory(None);
    let mut step = demand(session);
    step.missed_bytes = missed_bytes(session, &step);
    let paths = [PathBound {
        name: session.mover().paths()[0].name.clone(),
        bandwidth: origin,
        capacity: u64::MAX,
    }];
    let context = session.resolved().context;
    let horizon = HORIZON.min(context) as u64;
    let (bound_tok_s, bound_by) = step.bound(0..horizon, &paths, memory);
    let layout = session.layout();
    let needs = layout.needs();
    let rows = layout.prefill_rows(context, 1);
    let fixed_bytes = layout.fixed_bytes(layout.kv_border(horizon as usize, 0));
    let ring_bytes = layout.frames * layout.frame_bytes;
    let kv_bytes = needs.kv.bytes_for(context);
    let dram = TierPlan {
        name: "dram",
        bytes: layout.space_bytes,
        fixed_bytes,
        ring_bytes,
        work_bytes: layout.ring_start,
        kv_bytes,
    };
    let streamed = needs.weight_bytes() - fixed_bytes.min(needs.weight_bytes());
    Ok(PlanReport {
        weight_bytes: session.manifest().weight_bytes(),
        min_fast_bytes: needs.min_fast_bytes(),
        fast_bytes: layout.space_bytes,
        kv_bytes,
        context,
        kv_type: session.resolved().kv_type.name(),
        tiers: vec![dram],
        paths: vec![PathPlan {
            name: "origin>dram",
            bandwidth: origin,
            bytes_per_token: streamed,
        }],
        prefill_passes: if layout.frames == 0 {
            1
        } else {
            context.div_ceil(rows)
        },
        bound_tok_s,
        bound_by,
        notes: notes(session),
    })
}

/// Experts that a step misses if every expert is as likely as any other: routers are skewed, so a
/// run misses less.
fn missed_bytes(session: &Session, step: &Demand) -> f64 {
    let picked_bytes = (step.weight_bytes - step.dense_bytes) as f64;
    let manifest = session.manifest();
    let count = manifest.blocks.len() - manifest.program.dense_blocks();
    let all = (count as u64 * manifest.expert_bytes()) as f64;
    if all == 0.0 {
        return 0.0;
    }
    picked_bytes * (1.0 - step.expert_room(0) as f64 / all).max(0.0)
}

fn table(report: &PlanReport) -> Table {
    let mut table = Table::default();
    table.row("weights", memory(report.weight_bytes));
    table.row(
        "smallest fast tier",
        format!(
            "{} ({} bytes)",
            memory(report.min_fast_bytes),
            report.min_fast_bytes
        ),
    );
    table.row(
        "context",
        format!("{} tokens, KV in {}", report.context, report.kv_type),
    );
    for tier in &report.tiers {
        table.row(
            tier.name,
            format!(
                "{}: {} of weights stay, {} ring, {} work, up to {} KV",
                memory(tier.bytes),
                memory(tier.fixed_bytes),
                memory(tier.ring_bytes),
                memory(tier.work_bytes),
                memory(tier.kv_bytes)
            ),
        );
    }
    for path in &report.paths {
        let source = format!("{:?}", path.bandwidth.origin).to_lowercase();
        let speed = rate(path.bandwidth.bytes_per_s);
        table.row(
            path.name,
            format!(
                "{} per token at {speed} ({source})",
                memory(path.bytes_per_token)
            ),
        );
    }
    table.row(
        "prefill passes",
        format!("{} for a full context", report.prefill_passes),
    );
    table.row(
        "bound",
        format!("{:.2} tok/s by {}", report.bound_tok_s, report.bound_by),
    );
    for note in &report.notes {
        table.row("note", note.clone());
    }
    table
}
