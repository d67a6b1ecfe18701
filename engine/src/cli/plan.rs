//! `larder plan`: what will live where, and the speed that allows, without running.

use super::error::CliError;
use super::options::PlanOptions;
use super::prompt::OpenModel;
use super::report::{Probes, demand, expected, is_estimated, links, notes, path_bounds, step_time};
use super::size::{memory, rate, speed};
use super::table::{Table, print, width};
use super::words::{bound, fast_tier};
use crate::bound::step::REACHED_USUAL;
use crate::bound::{Bandwidth, Demand};
use crate::figures::{FigureStore, Figures, Misses};
use crate::session::{Forecast, Session, SessionError};
use serde::Serialize;

/// Tokens behind the prompt whose mean the bound is, at most.
const HORIZON: usize = 256;

/// What one tier holds.
#[derive(Debug, Serialize)]
struct TierPlan {
    name: String,
    /// Bytes of the tier; none of an origin, which holds all.
    bytes: Option<u64>,
    /// What will live there.
    holds: Vec<Held>,
}

#[derive(Debug, Serialize)]
struct Held {
    what: &'static str,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct PathPlan {
    name: String,
    #[serde(flatten)]
    bandwidth: Bandwidth,
    /// What it brings in for a token.
    bytes_per_token: u64,
}

/// Experts that will not be there when they are picked.
#[derive(Debug, Serialize)]
struct ExpertMisses {
    /// Of what a step picks, in bytes.
    share: f64,
    /// Runs of this model that said so; none if it is what is usual for such models.
    runs: u64,
}

impl ExpertMisses {
    fn of(misses: &Misses, runs: u64, forecast: &Forecast) -> Self {
        Self {
            share: misses.of(forecast.expert_room),
            runs,
        }
    }

    /// For the table.
    fn told(&self) -> String {
        let from = match self.runs {
            0 => "estimated: as in other models, none ran here".to_owned(),
            1 => "as in the last run".to_owned(),
            runs => format!("as in the last of {runs} runs"),
        };
        format!(
            "{:.0} % of what is picked is missed, {from}",
            self.share * 100.0
        )
    }
}

/// What `plan --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct PlanReport {
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
    /// The speed that is expected of this layout.
    pub(super) decode_tok_s: f64,
    expert_misses: Option<ExpertMisses>,
    bound_tok_s: f64,
    bound_by: String,
    /// What sets the bound was not measured.
    estimated: bool,
    notes: Vec<String>,
}

pub(super) fn plan(options: &PlanOptions, figures: &FigureStore) -> Result<(), CliError> {
    let engine = options.engine.resolve()?;
    let mut session = OpenModel::open(&options.model, &engine)?.session(&engine)?;
    let report = make(&mut session, figures)?;
    session.close()?;
    print(options.json, &report, || table(&report).render(width()))
}

/// Measures what carries the model, and says what will come of it.
pub(super) fn make(
    session: &mut Session,
    figures: &FigureStore,
) -> Result<PlanReport, SessionError> {
    let probes = Probes::begin(session)?;
    let inward = session.inward();
    let bounds = path_bounds(&inward, &probes.before, &probes.after);
    let measured = match probes.cold_memory {
        None if !probes.before.is_empty() => session.probe_memory_cold()?,
        measured => measured,
    };
    let memory = Bandwidth::memory(measured.map(|speed| speed.best), None);
    let usual = measured.map_or(memory.bytes_per_s, |speed| speed.usual);
    let context = session.resolved().context;
    let horizon = HORIZON.min(context) as u64;
    let forecast = session.forecast(horizon as usize / 2);
    let mut step = demand(session);
    let figures = expected(figures, session);
    step.missed_bytes = missed_bytes(session, &step, &figures);
    let (bound_tok_s, bound_by) = step.bound(0..horizon, &bounds, memory);
    let misses = figures.misses.as_ref();
    let misses = misses.map(|misses| ExpertMisses::of(misses, figures.runs, &forecast));
    let missed = misses.as_ref().map_or(0.0, |misses| misses.share);
    let read = step.read_bytes(horizon / 2);
    let reached = figures.of_memory.unwrap_or(REACHED_USUAL);
    let load = probes.before.load.unwrap_or(0.0);
    let time = step_time(&forecast, missed, (&bounds, load), (read, usual * reached));
    let made = figures.of_links.get(&links(&forecast, &inward));
    let made = made.filter(|_| time.waits()).copied().unwrap_or(1.0);
    let paths = bounds.iter().enumerate().map(|(at, path)| PathPlan {
        name: path.name.clone(),
        bandwidth: path.bandwidth,
        bytes_per_token: (forecast.streamed[at] + missed * forecast.picked[at]) as u64,
    });
    let layout = session.layout();
    let needs = layout.needs();
    let rows = layout.prefill_rows(context, 1);
    Ok(PlanReport {
        weight_bytes: session.manifest().weight_bytes(),
        min_fast_bytes: needs.min_fast_bytes(),
        fast_bytes: layout.space_bytes,
        kv_bytes: needs.kv.bytes_for(context),
        context,
        kv_type: session.resolved().kv_type.name(),
        paths: paths.collect(),
        tiers: tiers(session, horizon as usize),
        prefill_passes: if layout.frames == 0 {
            1
        } else {
            context.div_ceil(rows)
        },
        decode_tok_s: made / time.seconds(),
        expert_misses: misses,
        estimated: is_estimated(&bound_by, &bounds, memory),
        bound_tok_s,
        bound_by,
        notes: notes(session)
            .into_iter()
            .chain(probes.note(session))
            .collect(),
    })
}

/// What will live where, `tokens` tokens into a text; KV for the whole context.
fn tiers(session: &Session, tokens: usize) -> Vec<TierPlan> {
    let layout = session.layout();
    let needs = layout.needs();
    let context = session.resolved().context;
    let border = layout.kv_border(tokens, 0);
    let fixed = layout.fixed_bytes(border);
    let experts = layout.experts.map_or(0, |area| {
        area.frames_below(border) as u64 * area.frame_bytes
    });
    let kv = needs.kv.bytes_for(context);
    let kv_fast = layout.space_bytes - layout.kv_border(context, 0);
    let mut plans = vec![TierPlan::new(
        session.resolved().fast_name,
        Some(layout.space_bytes),
        &[
            ("weights that stay", fixed),
            ("experts, cached", experts),
            ("ring of weights", layout.frames * layout.frame_bytes),
            ("work buffers", layout.ring_start),
            ("kv, at most", kv_fast),
        ],
    )];
    let mut kv_left = kv - kv_fast;
    for (home, weights) in session.homes().iter().zip(session.homed_bytes()) {
        let kv_here = kv_left.min(home.bytes());
        kv_left -= kv_here;
        let what = if home.is_placed {
            "weights read in place"
        } else {
            "weights that stream"
        };
        let holds = [("kv that has left", kv_here), (what, weights)];
        plans.push(TierPlan::new(&home.name, Some(home.bytes()), &holds));
    }
    let weights = session.manifest().weight_bytes();
    let in_place = if needs.is_placed {
        weights.saturating_sub(fixed + experts)
    } else {
        0
    };
    let holds = [
        ("all weights", weights),
        ("of them read in place", in_place),
    ];
    plans.push(TierPlan::new("origin", None, &holds));
    plans
}

impl TierPlan {
    fn new(name: &str, bytes: Option<u64>, holds: &[(&'static str, u64)]) -> Self {
        let held = holds.iter().filter(|(_, bytes)| *bytes > 0);
        Self {
            name: name.to_owned(),
            bytes,
            holds: held.map(|&(what, bytes)| Held { what, bytes }).collect(),
        }
    }

    /// Its size, and what it holds.
    fn words(&self) -> String {
        let holds = self.holds.iter();
        let holds: Vec<String> = holds
            .map(|held| format!("{} {}", memory(held.bytes), held.what))
            .collect();
        let holds = if holds.is_empty() {
            "nothing".to_owned()
        } else {
            holds.join(", ")
        };
        match self.bytes {
            Some(bytes) => format!("{}: {holds}", memory(bytes)),
            None => holds,
        }
    }
}

/// Experts that a step misses in a cache of the least recently used that has all that dense parts
/// and KV leave of the budget.
fn missed_bytes(session: &Session, step: &Demand, figures: &Figures) -> f64 {
    let picked_bytes = (step.weight_bytes - step.dense_bytes) as f64;
    let manifest = session.manifest();
    let count = manifest.blocks.len() - manifest.program.dense_blocks();
    let all = (count as u64 * manifest.expert_bytes()) as f64;
    figures.misses.as_ref().map_or(0.0, |misses| {
        picked_bytes * misses.curve.at(step.expert_room(0) as f64 / all)
    })
}

fn table(report: &PlanReport) -> Table {
    let mut table = Table::default();
    table.row(
        "context",
        format!("{} tokens, KV in {}", report.context, report.kv_type),
    );
    table.row(
        "prompt",
        match report.prefill_passes {
            1 => "1 pass if it fills the context".to_owned(),
            passes => format!("{passes} passes if it fills the context"),
        },
    );
    table.row(
        "decode",
        format!("{}, expected", speed(report.decode_tok_s)),
    );
    if let Some(misses) = &report.expert_misses {
        table.row("experts", misses.told());
    }
    let limit = speed(report.bound_tok_s);
    table.row("bound", bound(&limit, &report.bound_by, report.estimated));
    table.row(
        "fast tier",
        fast_tier(None, report.fast_bytes, report.weight_bytes),
    );
    let least = report.min_fast_bytes;
    table.row("smallest", format!("{} ({least} bytes)", memory(least)));
    for tier in &report.tiers {
        table.row(&tier.name, tier.words());
    }
    for path in &report.paths {
        let source = format!("{:?}", path.bandwidth.origin).to_lowercase();
        let link = rate(path.bandwidth.bytes_per_s);
        let bytes = memory(path.bytes_per_token);
        table.row(&path.name, format!("{bytes} per token at {link}, {source}"));
    }
    for note in &report.notes {
        table.row("note", note.clone());
    }
    table
}
