//! The report of a run: the same numbers as one JSON object and as a table.

mod disks;
mod links;

mod learned;

pub(super) use disks::{DiskReport, join, rows as disk_rows};
pub(super) use learned::{expected, learn, links, step_time};
pub(super) use links::{is_estimated, path_bounds};

use super::pressure::PressureReport;
use super::size::{memory, or_dash, rate, share, speed, time};
use super::table::{Table, width_of};
use super::warm::WarmReport;
use super::words::{bound, fast_tier, in_place, while_decoding};
use crate::bound::replay::Record;
use crate::bound::{Bandwidth, Demand, MEMORY};
use crate::session::{Carried, Generated, MemorySpeed, Sample, Session, SessionError};
use larder_pool::sys::limits::resident_bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Models and runs below these are not probed: their bound is an estimate.
const PROBED_BYTES: u64 = 64 << 20;
const PROBED_TIME: Duration = Duration::from_secs(2);

/// A first read that is slower by this much is told apart.
const FIRST_SLOWER: f64 = 1.25;

/// Probes of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    /// Of the paths into the fast tier; empty where nothing was probed.
    pub(super) before: Carried,
    pub(super) after: Carried,
    /// Before, of a model that waits for no link.
    pub(super) cold_memory: Option<MemorySpeed>,
    memory: Option<MemorySpeed>,
}

impl Probes {
    /// Of the paths before a run. A link with a limit need not be measured, nor one that a small
    /// model would not fill.
    pub(super) fn begin(session: &mut Session) -> Result<Self, SessionError> {
        let mut probes = Self::default();
        if session.manifest().weight_bytes() >= PROBED_BYTES {
            probes.before = session.probe_paths(Sample::Before)?;
            session.check_tiers(&probes.before)?;
            if session.streams_nothing() {
                probes.cold_memory = session.probe_memory_cold()?;
            }
        }
        Ok(probes)
    }

    /// Says that a first read was slower than those behind it, if it was.
    pub(super) fn note(&self, session: &Session) -> Option<String> {
        let again: f64 = self
            .before
            .alone
            .iter()
            .take(session.origins())
            .flatten()
            .sum();
        let first = self
            .before
            .first
            .filter(|first| first * FIRST_SLOWER < again)?;
        Some(format!(
            "the model came at {} when it was read first and at {} again: something below the file \
             keeps it, and speeds are expected of what was read before",
            rate(first),
            rate(again)
        ))
    }

    /// Of the same paths, and of the memory, behind a run that took `ran`.
    pub(super) fn end(&mut self, session: &mut Session, ran: Duration) -> Result<(), SessionError> {
        if !self.before.is_empty() && ran >= PROBED_TIME {
            self.memory = session.probe_memory();
            // Where weights are read in place no link sets the bound; it may be gone by now.
            if !session.reads_all_in_place() {
                self.after = session.probe_paths(Sample::Behind)?;
            }
        }
        Ok(())
    }
}

/// What became of a memory node during a run.
#[derive(Debug, Serialize)]
struct NodeReport {
    address: String,
    /// Times that it did not answer for a while.
    suspected: u64,
    /// Times that it was given up.
    lost: u64,
    /// Times that it came, or came back.
    joined: u64,
}

impl NodeReport {
    fn of(session: &Session) -> Vec<Self> {
        let nodes = session.nodes().iter().map(|node| {
            let counts = node.client.health().counts();
            Self {
                address: node.client.address().to_owned(),
                suspected: counts.suspected,
                lost: counts.lost,
                joined: counts.joined,
            }
        });
        nodes.collect()
    }

    /// What there is to say, if there is.
    fn story(&self) -> Option<String> {
        let times = |count: u64, what: &str| match count {
            0 => None,
            1 => Some(what.to_owned()),
            count => Some(format!("{what} {count} times")),
        };
        let told = [
            times(self.suspected, "silent for a while"),
            times(self.lost, "lost"),
            times(self.joined, "joined"),
        ];
        let told: Vec<String> = told.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

/// What `run --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct RunReport {
    pub(super) text: Option<String>,
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_tokens: usize,
    /// Of those, tokens whose KV was kept from an earlier text.
    reused_tokens: usize,
    /// Tokens whose KV was computed again because it was lost.
    recomputed_tokens: usize,
    /// Times that KV was lost.
    kv_losses: usize,
    nodes: Vec<NodeReport>,
    stop: String,
    pub(super) ttft_ms: f64,
    pub(super) decode_tok_s: Option<f64>,
    pub(super) prefill_tok_s: f64,
    pub(super) fast_bytes: u64,
    pub(super) peak_bytes: u64,
    bytes_moved: BTreeMap<String, u64>,
    /// Weights that kernels read in the memory of a node.
    pub(super) in_place_bytes: u64,
    /// Bytes moved while decoding, divided by what the budget made necessary.
    pub(super) bytes_over_need: Option<f64>,
    hits: u64,
    misses: u64,
    /// What `--warm` brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    warm: Option<WarmReport>,
    /// Blocks and slices that `--shake` made leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    shaken: Option<u64>,
    /// What `--pressure` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pressure: Option<PressureReport>,
    pub(super) stall_ms: f64,
    pub(super) link_busy: Option<f64>,
    pub(super) link_mb_s: BTreeMap<String, f64>,
    /// Mean wait for a block while decoding, from when it was a demand, by path.
    demand_us: BTreeMap<String, f64>,
    pub(super) disks: BTreeMap<String, DiskReport>,
    pub(super) bound_tok_s: f64,
    pub(super) bound_by: String,
    pub(super) estimated: bool,
    /// Probes before and after differ by more than a tenth.
    #[serde(rename = "void")]
    pub(super) is_void: bool,
    pub(super) of_bound: Option<f64>,
    pub(super) of_optimum: Option<f64>,
    pub(super) backend: String,
    pub(super) cpu: String,
    pub(super) notes: Vec<String>,
}

/// What a step of the model of a session reads, and the budget; every pick is found.
pub(super) fn demand(session: &Session) -> Demand {
    let kv = &session.layout().needs().kv;
    Demand {
        weight_bytes: session.manifest().step_bytes(),
        dense_bytes: session.manifest().dense_bytes(),
        kv_token_bytes: kv.slice_bytes * kv.layers as u64 / larder_cpu::KV_TOKENS as u64,
        budget: session.resolved().budget + session.placed_room(),
        missed_bytes: 0.0,
        is_placed: session.layout().needs().is_placed,
    }
}

/// What a cache of experts misses per step in a replay of the run: least recently used, optimal.
fn replay(session: &Session, demand: &Demand, position: u64, steps: usize) -> (f64, f64) {
    let expert_bytes = session.manifest().expert_bytes();
    let record = session.stager().record().filter(|_| expert_bytes > 0);
    let Some((prefill, decode)) = record else {
        return (0.0, 0.0);
    };
    let record = Record { prefill, decode };
    let slots = (demand.expert_room(position) / expert_bytes) as usize;
    let bytes = |misses: u64| (misses * expert_bytes) as f64 / steps.max(1) as f64;
    (
        bytes(record.lru_misses(slots)),
        bytes(record.optimal_misses(slots)),
    )
}

/// Things about this host that the reader should know, each once.
pub(super) fn notes(session: &Session) -> Vec<String> {
    let mut notes = Vec::new();
    for info in session.mover().paths() {
        notes.push(format!("{} by {}", info.name, info.driver));
        let new = info.notes.iter().filter(|note| !notes.contains(note));
        let new: Vec<String> = new.cloned().collect();
        notes.extend(new);
    }
    notes.extend(session.buffered_files().map(|path| {
        format!(
            "{} is read through the page cache: its file system has no O_DIRECT",
            path.display()
        )
    }));
    notes.extend(session.spill_notes().cloned());
    notes.extend(session.heat().notes());
    if let Some(mapping) = session.space().mapping() {
        notes.push(format!("fast tier on {}", mapping.kind().name()));
    }
    notes
}

/// What nothing could beat, and what sets it.
struct Bounds {
    tok_s: f64,
    by: String,
    /// With a cache of experts that knows the future.
    optimum_tok_s: f64,
    is_estimated: bool,
    /// What sets the bound changed during the run.
    is_void: bool,
    /// Bytes that had to come over the paths, for all steps.
    need: f64,
}

impl Bounds {
    /// Of `steps` steps behind `first` tokens.
    fn new(session: &Session, first: u64, steps: usize, probes: &Probes) -> Self {
        let paths = path_bounds(&session.inward(), &probes.before, &probes.after);
        let best = |speed: Option<MemorySpeed>| speed.map(|speed| speed.best);
        let read = (best(probes.cold_memory), best(probes.memory));
        let memory = Bandwidth::memory(read.0, read.1);
        let mut step = demand(session);
        let positions = first..first + steps as u64;
        let (lru, optimal) = replay(session, &step, first + steps as u64 / 2, steps);
        step.missed_bytes = optimal;
        let (optimum_tok_s, _) = step.bound(positions.clone(), &paths, memory);
        step.missed_bytes = lru;
        let (tok_s, by) = step.bound(positions.clone(), &paths, memory);
        let is_estimated = is_estimated(&by, &paths, memory);
        let is_void = if by == MEMORY {
            memory.is_void(read.0, read.1)
        } else {
            links::have_changed(&paths, &probes.before, &probes.after)
        };
        Self {
            tok_s,
            by,
            optimum_tok_s,
            is_estimated,
            is_void,
            need: positions.map(|position| step.need_bytes(position)).sum(),
        }
    }
}

/// What the process has of its own of `resident` bytes: those that a node lends are the node's.
fn own_bytes(session: &Session, resident: u64) -> u64 {
    resident.saturating_sub(session.stager().supply().lent_bytes())
}

/// What each path and copy engine moved for the run, without what probes read.
fn bytes_moved(session: &Session, names: &[String]) -> BTreeMap<String, u64> {
    let mut moved: Vec<u64> = session.path_use().iter().map(|path| path.bytes).collect();
    for (moved, probed) in moved.iter_mut().zip(session.probed()) {
        *moved -= probed;
    }
    let mut by_name: BTreeMap<String, u64> = names.iter().cloned().zip(moved).collect();
    if let Some((into, out)) = session.copied_bytes() {
        by_name.extend([("dram>hbm".to_owned(), into), ("hbm>dram".to_owned(), out)]);
    }
    by_name
}

impl RunReport {
    pub(super) fn new(
        session: &Session,
        prompt_tokens: usize,
        made: &Generated,
        text: Option<String>,
        probes: &Probes,
        peak_bytes: u64,
    ) -> Self {
        let seconds = made.decode.as_secs_f64();
        let per_second = |amount: f64| (made.decode_steps > 0).then(|| amount / seconds);
        let bounds = Bounds::new(session, prompt_tokens as u64, made.decode_steps, probes);
        let decode_tok_s = per_second(made.decode_steps as f64);
        let of = |bound: f64| {
            let speed = decode_tok_s.filter(|_| !bounds.is_estimated);
            speed.map(|speed| speed / bound)
        };
        let counters = session.stager().counters();
        let names = session.mover().paths().iter().map(|path| path.name.clone());
        let names: Vec<String> = names.collect();
        let inward = session.inward().into_iter();
        let arrived = inward.map(|path| made.decode_paths[path.path.index()].bytes);
        let arrived: u64 = arrived.sum();
        let busiest = made.decode_paths.iter().map(|path| path.busy).max();
        Self {
            demand_us: disks::waits(&names, &made.decode_paths),
            disks: disks::disks(session),
            text,
            tokens: made.tokens.clone(),
            prompt_tokens,
            reused_tokens: made.reused,
            recomputed_tokens: made.recomputed,
            kv_losses: made.losses,
            nodes: NodeReport::of(session),
            stop: format!("{:?}", made.stop).to_lowercase(),
            ttft_ms: made.first_token.as_secs_f64() * 1e3,
            decode_tok_s,
            prefill_tok_s: prompt_tokens as f64 / made.first_token.as_secs_f64(),
            fast_bytes: session.space().peak_bytes(),
            peak_bytes: own_bytes(session, peak_bytes.max(resident_bytes())),
            bytes_moved: bytes_moved(session, &names),
            in_place_bytes: counters.in_place,
            bytes_over_need: (bounds.need > 0.0).then(|| arrived as f64 / bounds.need),
            hits: counters.hits,
            misses: counters.misses,
            warm: WarmReport::of(session),
            shaken: session.shaken(),
            pressure: PressureReport::of(session),
            stall_ms: counters.stall.as_secs_f64() * 1e3,
            link_busy: busiest.and_then(|busy| per_second(busy.as_secs_f64())),
            link_mb_s: names
                .into_iter()
                .zip(&made.decode_paths)
                .filter_map(|(name, path)| Some((name, per_second(path.bytes as f64 / 1e6)?)))
                .collect(),
            of_bound: of(bounds.tok_s),
            of_optimum: of(bounds.optimum_tok_s),
            bound_tok_s: bounds.tok_s,
            bound_by: bounds.by,
            estimated: bounds.is_estimated,
            is_void: bounds.is_void,
            backend: session.backend_name(),
            cpu: larder_cpu::isa::cpu_flags(),
            notes: notes(session)
                .into_iter()
                .chain(probes.note(session))
                .collect(),
        }
    }

    fn node_rows(&self, table: &mut Table) {
        for node in &self.nodes {
            if let Some(story) = node.story() {
                table.row(&format!("node {}", node.address), story);
            }
        }
    }

    fn loss_rows(&self, table: &mut Table) {
        if self.recomputed_tokens > 0 {
            let tokens = self.recomputed_tokens;
            table.row(
                "computed again",
                format!("{tokens} tokens, lost with their home"),
            );
        }
    }

    /// The table at the end of a run.
    pub(super) fn table(&self, budget: u64, weights: u64) -> String {
        let mut table = Table::default();
        table.row(
            "prompt",
            format!(
                "{} tokens, {}{}",
                self.prompt_tokens,
                speed(self.prefill_tok_s),
                match self.reused_tokens {
                    0 => String::new(),
                    tokens => format!(", {tokens} of them kept from before"),
                }
            ),
        );
        self.loss_rows(&mut table);
        self.node_rows(&mut table);
        table.row("first token", time(self.ttft_ms));
        table.row(
            "decode",
            format!(
                "{} tokens, {}",
                self.tokens.len(),
                or_dash(self.decode_tok_s, speed)
            ),
        );
        let limit = speed(self.bound_tok_s);
        table.row("bound", bound(&limit, &self.bound_by, self.estimated));
        table.row("of bound", or_dash(self.of_bound, share));
        if self.of_optimum != self.of_bound {
            table.row("of optimum", or_dash(self.of_optimum, share));
        }
        table.row(
            "fast tier",
            fast_tier(Some(self.fast_bytes), budget, weights),
        );
        table.row("memory peak", memory(self.peak_bytes));
        if let Some(pressure) = &self.pressure {
            table.row("pressure", pressure.story());
        }
        for (path, bytes) in self.bytes_moved.iter().filter(|(_, bytes)| **bytes > 0) {
            let link = self.link_mb_s.get(path).copied().and_then(while_decoding);
            let told = [Some(memory(*bytes)), link].into_iter().flatten();
            table.row(path, told.collect::<Vec<_>>().join(", "));
        }
        if self.in_place_bytes > 0 {
            table.row("in place", in_place(self.in_place_bytes));
        }
        disks::rows(&self.disks, &mut table);
        table.row("link busy", or_dash(self.link_busy, share));
        table.row("over need", or_dash(self.bytes_over_need, share));
        table.row(
            "blocks",
            format!("{} hits, {} misses", self.hits, self.misses),
        );
        if let Some(warm) = &self.warm {
            table.row("warm", warm.told());
        }
        table.row("stall", time(self.stall_ms));
        table.row("backend", format!("{} ({})", self.backend, self.cpu));
        for note in &self.notes {
            table.row("note", note.clone());
        }
        table.render(width_of(std::io::stderr()))
    }
}
