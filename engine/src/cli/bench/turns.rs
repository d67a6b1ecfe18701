//! `larder bench turns MODEL`: several texts of one session, as a server makes them.
//!
//! A turn is a prompt and the tokens behind it. The first one finds what came before it (nothing,
//! or what `--warm` brought); a later one of the same prompt what the turns before it left.

use crate::cli::error::CliError;
use crate::cli::options::TurnsOptions;
use crate::cli::prompt::OpenModel;
use crate::cli::report::{Probes, notes};
use crate::cli::size::{memory, or_dash, parse_ids, speed as tok_s, time};
use crate::cli::table::{Table, print, width};
use crate::cli::warm::WarmReport;
use crate::sample::argmax;
use crate::session::{GenerateOptions, Session, SessionError};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Tokens of the prompt where none is given: the first ones of the vocabulary behind the zeroth.
const PROMPT: u32 = 16;
/// Turns at most, and seconds without one.
const TURNS_MAX: usize = 10_000;
const IDLE_MAX: f64 = 86_400.0;

/// One turn.
#[derive(Debug, Serialize)]
struct Turn {
    /// Number of the prompt, from 0.
    prompt: usize,
    seconds: f64,
    ttft_ms: f64,
    decode_tok_s: Option<f64>,
    hits: u64,
    misses: u64,
    /// Bytes that came to the fast tier.
    bytes: u64,
    tokens: Vec<u32>,
}

/// What `bench turns --json` prints.
#[derive(Debug, Serialize)]
struct TurnsReport {
    turns: Vec<Turn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warm: Option<WarmReport>,
    /// Median of the later turns with the prompt of the first one, and the first as a share of it.
    steady_seconds: Option<f64>,
    first_of_steady: Option<f64>,
    fast_bytes: u64,
    cpu: String,
    notes: Vec<String>,
}

pub(super) fn turns(options: &TurnsOptions) -> Result<(), CliError> {
    let usage = |what: String| Err(CliError::Usage(what));
    if options.turns == 0 || options.turns > TURNS_MAX {
        return usage(format!("--turns {}: 1 to {TURNS_MAX}", options.turns));
    }
    if let Some(idle) = options.idle
        && !(0.0..=IDLE_MAX).contains(&idle)
    {
        return usage(format!("--idle {idle}: 0 to {IDLE_MAX} seconds"));
    }
    let engine = options.engine.resolve()?;
    let (model, prompts) = prompts(options, OpenModel::open(&options.model, &engine)?)?;
    let mut session = model.session(&engine)?;
    session.set_heat(options.warm.heat(&model.manifest));
    Probes::begin(&mut session)?;
    if options.warm.warm.is_some() {
        session.begin_warm().map_err(SessionError::from)?;
        session.wait_warm(options.idle.map(Duration::from_secs_f64));
    }
    let (mut made, mut warm) = (Vec::new(), None);
    for number in 0..options.turns {
        let at = number % prompts.len();
        made.push(turn(&mut session, at, &prompts[at], options.count)?);
        if number == 0 {
            warm = WarmReport::of(&session);
        }
    }
    let report = report(&session, made, warm);
    session.close()?;
    print(options.json, &report, || table(&report).render(width()))
}

fn prompts(
    options: &TurnsOptions,
    mut model: OpenModel,
) -> Result<(OpenModel, Vec<Vec<u32>>), CliError> {
    let mut prompts = Vec::new();
    for ids in &options.prompt_tokens {
        prompts.push(parse_ids(ids).map_err(CliError::Usage)?);
    }
    for text in &options.prompt {
        let (same, ids) = model.encode(text)?;
        (model, prompts) = (same, [prompts, vec![ids]].concat());
    }
    if prompts.is_empty() {
        let vocab = model.manifest.config.vocab as u32;
        prompts.push((1..=PROMPT).map(|id| id % vocab).collect());
    }
    Ok((model, prompts))
}

fn turn(
    session: &mut Session,
    number: usize,
    prompt: &[u32],
    count: usize,
) -> Result<Turn, CliError> {
    let (before, moved) = (session.stager().counters(), arrived(session));
    let start = Instant::now();
    let generate = GenerateOptions {
        prompt,
        count,
        stop: &[],
    };
    let made = session.generate(&generate, |logits| Ok(argmax(logits)), |_| true)?;
    let seconds = start.elapsed().as_secs_f64();
    let after = session.stager().counters();
    let decode = made.decode.as_secs_f64();
    Ok(Turn {
        prompt: number,
        seconds,
        ttft_ms: made.first_token.as_secs_f64() * 1e3,
        decode_tok_s: (made.decode_steps > 0).then(|| made.decode_steps as f64 / decode),
        hits: after.hits - before.hits,
        misses: after.misses - before.misses,
        bytes: arrived(session) - moved,
        tokens: made.tokens,
    })
}

/// Bytes that have come over the paths into the fast tier.
fn arrived(session: &Session) -> u64 {
    let used = session.path_use();
    let inward = session.inward().into_iter();
    inward.map(|path| used[path.path.index()].bytes).sum()
}

fn report(session: &Session, turns: Vec<Turn>, warm: Option<WarmReport>) -> TurnsReport {
    let first = &turns[0];
    let later = turns[1..].iter().filter(|turn| turn.prompt == first.prompt);
    let mut later: Vec<f64> = later.map(|turn| turn.seconds).collect();
    later.sort_by(f64::total_cmp);
    let steady = later.get(later.len() / 2).copied();
    TurnsReport {
        steady_seconds: steady,
        first_of_steady: steady.map(|steady| first.seconds / steady),
        turns,
        warm,
        fast_bytes: session.space().peak_bytes(),
        cpu: larder_cpu::isa::cpu_flags(),
        notes: notes(session),
    }
}

fn table(report: &TurnsReport) -> Table {
    let mut table = Table::default();
    for (number, turn) in report.turns.iter().enumerate() {
        table.row(
            &format!("turn {}", number + 1),
            format!(
                "prompt {}, {}: first token {}, decode {}, {} misses, {}",
                turn.prompt + 1,
                time(turn.seconds * 1e3),
                time(turn.ttft_ms),
                or_dash(turn.decode_tok_s, tok_s),
                turn.misses,
                memory(turn.bytes)
            ),
        );
    }
    if let Some(warm) = &report.warm {
        table.row("warm", warm.told());
    }
    let steady = or_dash(report.steady_seconds, |seconds| time(seconds * 1e3));
    table.row("steady", format!("{steady}, the prompt of turn 1 later"));
    table.row(
        "first turn",
        or_dash(report.first_of_steady, |share| {
            format!("{share:.2} of steady")
        }),
    );
    table.row("fast tier", memory(report.fast_bytes));
    for note in &report.notes {
        table.row("note", note.clone());
    }
    table
}
