//! `larder bench MODEL`: the same text again and again, until its speed can be trusted.
//!
//! Each run has a session of its own, opened anew: an empty fast tier, paths that have measured
//! nothing yet, no KV kept from the run before. A session that was only cleared would begin with
//! what the first run had learned. Each has a plan too, made just before it: memory of a shared
//! host changes from one minute to the next. A run whose links changed meanwhile is void.

use crate::cli::error::CliError;
use crate::cli::options::{PromptArgs, SpeedOptions};
use crate::cli::plan;
use crate::cli::prompt::OpenModel;
use crate::cli::report::{DiskReport, Probes, RunReport, disk_rows, join, learn};
use crate::cli::size::{memory, or_dash, rate, share, speed as tok_s, time};
use crate::cli::table::{Table, print, width};
use crate::cli::words::{bound, fast_tier, headline, in_place};
use crate::figures::FigureStore;
use crate::heat::Heat;
use crate::sample::argmax;
use crate::session::{GenerateOptions, SessionOptions};
use larder_ebpf::{DEFAULT_ROOT, Pins};
use larder_pool::sys::limits::resident_bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

/// Valid runs that are wanted, and runs that are made for them at most.
const VALID: usize = 3;
const RUNS_MAX: usize = 9;
/// Tokens of the prompt where none is given: the first ones of the vocabulary behind the zeroth.
const PROMPT: u32 = 16;

/// A figure over the valid runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    /// `None` of nothing.
    fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        Some(Self {
            median: *figures.get(figures.len() / 2)?,
            lowest: *figures.first()?,
            highest: *figures.last()?,
        })
    }
}

/// What `bench --json` prints: figures of the runs that are valid.
#[derive(Debug, Serialize)]
struct SpeedReport {
    prompt_tokens: usize,
    /// Tokens that each run generated.
    tokens: usize,
    valid_runs: usize,
    void_runs: usize,
    ttft_ms: Option<Spread>,
    prefill_tok_s: Option<Spread>,
    decode_tok_s: Option<Spread>,
    /// What `plan` said before each run, and the run's speed as a share of that.
    plan_tok_s: Option<Spread>,
    of_plan: Option<Spread>,
    bound_tok_s: Option<Spread>,
    bound_by: String,
    estimated: bool,
    of_bound: Option<Spread>,
    of_optimum: Option<Spread>,
    fast_bytes: u64,
    peak_bytes: u64,
    link_mb_s: BTreeMap<String, Spread>,
    /// Of all tokens together; nothing where nothing was read in place.
    in_place_bytes: Option<Spread>,
    /// Each at its worst over all runs, the void ones too.
    disks: BTreeMap<String, DiskReport>,
    link_busy: Option<Spread>,
    bytes_over_need: Option<Spread>,
    stall_ms: Option<Spread>,
    backend: String,
    cpu: String,
    notes: Vec<String>,
}

pub(super) fn speed(
    path: &Path,
    options: &SpeedOptions,
    figures: &FigureStore,
) -> Result<(), CliError> {
    let mut engine = options.engine.resolve()?;
    engine.may_shrink = options.pressure.is_wanted();
    let model = OpenModel::open(path, &engine)?;
    let (model, prompt) = match (&options.prompt, &options.prompt_tokens) {
        (None, None) => {
            let vocab = model.manifest.config.vocab as u32;
            (model, (1..=PROMPT).map(|id| id % vocab).collect())
        }
        (text, ids) => model.prompt(&PromptArgs {
            prompt: text.clone(),
            file: None,
            prompt_tokens: ids.clone(),
        })?,
    };
    let session = model.session(&engine)?;
    let _ = writeln!(std::io::stderr(), "{}", headline(path, &session));
    let (weights, budget) = (model.manifest.weight_bytes(), session.resolved().budget);
    drop(session);
    let (mut valid, mut void) = (Vec::new(), 0);
    let (mut last, mut disks, mut plans) = (None, BTreeMap::new(), Vec::new());
    while valid.len() < VALID && valid.len() + void < RUNS_MAX {
        let planned = plan::make(&mut model.session(&engine)?, figures)?.decode_tok_s;
        let report = once(&model, &engine, &prompt, (options, figures))?;
        let number = valid.len() + void + 1;
        join(&mut disks, &report.disks);
        let _ = writeln!(std::io::stderr(), "run {number}: {}", line(&report));
        if report.is_void {
            void += 1;
            last = Some(report);
        } else {
            valid.push(report);
            plans.push(planned);
        }
    }
    let any = valid.last().or(last.as_ref()).expect("a run was made");
    let report = SpeedReport {
        disks,
        ..summary(any, (&valid, &plans), void)
    };
    let table = || table(&report, budget, weights).render(width());
    print(options.json, &report, table)
}

/// One run, as `larder run` makes it.
fn once(
    model: &OpenModel,
    engine: &SessionOptions,
    prompt: &[u32],
    (options, figures): (&SpeedOptions, &FigureStore),
) -> Result<RunReport, CliError> {
    let mut session = model.session(engine)?;
    session.set_heat(Heat::claim(&Pins::new(DEFAULT_ROOT), &model.manifest));
    let watched = options.pressure.watch(&mut session)?;
    let mut probes = Probes::begin(&mut session)?;
    let start = Instant::now();
    let generate = GenerateOptions {
        prompt,
        count: options.count,
        stop: &[],
    };
    let pick = |logits: &mut [f32]| Ok(argmax(logits));
    let made = session.generate(&generate, pick, |_| true)?;
    let peak = resident_bytes();
    probes.end(&mut session, start.elapsed())?;
    let mut report = RunReport::new(&session, prompt.len(), &made, None, &probes, peak);
    report.notes.extend(watched);
    learn(figures, &session, (prompt.len(), &made), &probes);
    Ok(report)
}

/// What one run came to.
fn line(report: &RunReport) -> String {
    let speed = or_dash(report.decode_tok_s, tok_s);
    let links = report.link_mb_s.iter().filter(|(_, rate)| **rate > 0.0);
    let links = links.map(|(path, mb_s)| format!("{path} {}", rate(mb_s * 1e6)));
    let told: Vec<String> = [speed].into_iter().chain(links).collect();
    let void = if report.is_void {
        ", void: what sets the bound changed by more than a tenth"
    } else {
        ""
    };
    told.join(", ") + void
}

/// The figures of `valid`; what no run changes comes from `any`.
fn summary(any: &RunReport, (valid, plans): (&[RunReport], &[f64]), void: usize) -> SpeedReport {
    let spread =
        |figure: fn(&RunReport) -> Option<f64>| Spread::of(valid.iter().filter_map(figure));
    let decode_tok_s = spread(|run| run.decode_tok_s);
    let runs = valid.iter().zip(plans);
    let of_plan = runs.filter_map(|(run, plan)| Some(run.decode_tok_s? / plan));
    let links = any.link_mb_s.keys().filter_map(|path| {
        let rates = valid.iter().filter_map(|run| run.link_mb_s.get(path));
        Some((path.clone(), Spread::of(rates.copied())?))
    });
    SpeedReport {
        prompt_tokens: any.prompt_tokens,
        tokens: any.tokens.len(),
        valid_runs: valid.len(),
        void_runs: void,
        ttft_ms: spread(|run| Some(run.ttft_ms)),
        prefill_tok_s: spread(|run| Some(run.prefill_tok_s)),
        decode_tok_s,
        plan_tok_s: Spread::of(plans.iter().copied()),
        of_plan: Spread::of(of_plan),
        bound_tok_s: spread(|run| Some(run.bound_tok_s)),
        bound_by: any.bound_by.clone(),
        estimated: any.estimated,
        of_bound: spread(|run| run.of_bound),
        of_optimum: spread(|run| run.of_optimum),
        fast_bytes: valid
            .iter()
            .map(|run| run.fast_bytes)
            .max()
            .unwrap_or(any.fast_bytes),
        peak_bytes: valid
            .iter()
            .map(|run| run.peak_bytes)
            .max()
            .unwrap_or(any.peak_bytes),
        link_mb_s: links.collect(),
        in_place_bytes: spread(|run| (run.in_place_bytes > 0).then_some(run.in_place_bytes as f64)),
        disks: BTreeMap::new(),
        link_busy: spread(|run| run.link_busy),
        bytes_over_need: spread(|run| run.bytes_over_need),
        stall_ms: spread(|run| Some(run.stall_ms)),
        backend: any.backend.clone(),
        cpu: any.cpu.clone(),
        notes: any.notes.clone(),
    }
}

/// Median, and lowest and highest behind it if they differ, whose unit is not said twice if it is
/// the same.
fn shown(spread: Option<Spread>, show: impl Fn(f64) -> String) -> String {
    or_dash(spread, |spread| {
        let each = [spread.median, spread.lowest, spread.highest];
        let [median, lowest, highest] = each.map(show);
        if lowest == highest {
            return median;
        }
        let unit = median.split_once(' ').map_or("", |(_, unit)| unit);
        let bare = |text: &str| text.strip_suffix(unit).map(|text| text.trim().to_owned());
        match (bare(&lowest), bare(&highest)) {
            (Some(lowest), Some(highest)) => format!("{median} ({lowest} to {highest})"),
            _ => format!("{median} ({lowest} to {highest})"),
        }
    })
}

fn table(report: &SpeedReport, budget: u64, weights: u64) -> Table {
    let mut table = Table::default();
    let SpeedReport {
        valid_runs,
        void_runs,
        ..
    } = report;
    table.row(
        "runs",
        format!("{valid_runs} valid, {void_runs} void; the median, and lowest to highest"),
    );
    let prompt = shown(report.prefill_tok_s, tok_s);
    table.row(
        "prompt",
        format!("{} tokens, {prompt}", report.prompt_tokens),
    );
    table.row("first token", shown(report.ttft_ms, time));
    let decode = shown(report.decode_tok_s, tok_s);
    table.row("decode", format!("{} tokens, {decode}", report.tokens));
    table.row(
        "of plan",
        format!(
            "{} of {} expected",
            shown(report.of_plan, share),
            shown(report.plan_tok_s, tok_s)
        ),
    );
    let limit = shown(report.bound_tok_s, tok_s);
    table.row("bound", bound(&limit, &report.bound_by, report.estimated));
    table.row("of bound", shown(report.of_bound, share));
    if report.of_optimum != report.of_bound {
        table.row("of optimum", shown(report.of_optimum, share));
    }
    let used = Some(report.fast_bytes);
    table.row("fast tier", fast_tier(used, budget, weights));
    table.row("memory peak", memory(report.peak_bytes));
    for (path, spread) in &report.link_mb_s {
        if spread.highest > 0.0 {
            let link = shown(Some(*spread), |mb_s| rate(mb_s * 1e6));
            table.row(path, format!("{link} while decoding"));
        }
    }
    if report.in_place_bytes.is_some() {
        let read = shown(report.in_place_bytes, |bytes| in_place(bytes as u64));
        table.row("in place", read);
    }
    disk_rows(&report.disks, &mut table);
    table.row("link busy", shown(report.link_busy, share));
    table.row("over need", shown(report.bytes_over_need, share));
    table.row("stall", shown(report.stall_ms, time));
    table.row("backend", format!("{} ({})", report.backend, report.cpu));
    for note in &report.notes {
        table.row("note", note.clone());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_its_median_and_its_range() {
        let spread = Spread::of([3.0, 1.0, 2.5].into_iter());
        assert_eq!(shown(spread, share), "2.50 (1.00 to 3.00)");
        assert_eq!(shown(spread, tok_s), "2.50 tok/s (1.00 to 3.00)");
        let wide = Spread::of([1e9, 9e8, 2e9].into_iter());
        let said = shown(wide, rate);
        assert_eq!(said, "1.00 GB/s (900.0 MB/s to 2.00 GB/s)");
        let same = Spread::of([2.0, 2.001].into_iter());
        assert_eq!(shown(same, share), "2.00");
        assert_eq!(shown(Spread::of([].into_iter()), share), "-");
    }
}
