//! A session: one model opened under one budget, ready to generate and to score.
//!
//! Opening resolves the budget and the context, divides the arena, starts the mover and the
//! kernels. Nothing of the weights is read before the first step.

mod fast;
mod shake;
mod pressure;
mod warm;
mod generate;
mod nodes;
mod in_place;
mod prefix;
mod probe;
mod resolve;
mod score;
mod tiers;
mod open;
mod forecast;

pub use forecast::Forecast;
pub use generate::{GenerateOptions, Generated, PathUse, StopReason};
pub use nodes::{NodeLink, Nodes, NodesError, SCHEME, connect, no_model};
pub use probe::{Carried, MemorySpeed, Sample};
pub use resolve::{LowerTier, Resolved, SessionOptions, resolve};
pub use warm::Warmed;

use crate::backend::Backend;
use crate::backend::work::WorkBuffers;
use crate::gather::Gatherer;
use crate::heat::Heat;
use crate::home::{Home, Homes, given_back};
use crate::kv::kept::KvIndex;
use crate::kv::{KvError, Sequence};
use crate::layout::{Layout, TooSmall};
use crate::manifest::Manifest;
use crate::session::pressure::UnderPressure;
use crate::session::shake::Shake;
use crate::session::warm::WarmUp;
use crate::stager::Stager;
use crate::timeline::Watched;
use larder_cpu::{IsaError, KvError as KvShapeError};
use larder_pool::device::SimDevice;
use larder_pool::mover::Mover;
use larder_pool::remote::RemoteError;
use larder_pool::spill::{Spill, SpillError};
use larder_pool::sys::file::{FileError, SourceFile};
use larder_pool::sys::lease::SlotTable;
use larder_pool::sys::mapping::{BindError, MapError};
use larder_pool::sys::space::{Extent, Space};
use larder_pool::table::HOMES_PER_BLOCK;
use larder_pool::transfer::MoveError;
use larder_pool::units::{BytesPerSec, GRANULE, PathId, SLICE_TOKENS};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A model could not be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
    #[error(transparent)]
    Move(#[from] MoveError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Spill(#[from] SpillError),
    #[error(transparent)]
    Nodes(#[from] NodesError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("start a thread: {0}; raise the limits of memory and processes (ulimit -v, -u)")]
    Threads(std::io::Error),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(
        "{slow} carries {slow_mb_s:.0} MB/s and {fast} {fast_mb_s:.0} MB/s with room for all of the \
         kv: leave {slow} out, or add ,force to use it"
    )]
    SlowTier {
        slow: String,
        slow_mb_s: f64,
        fast: String,
        fast_mb_s: f64,
    },
    #[error("{count} tiers below the fast one; give {HOMES_PER_BLOCK} at most")]
    TooManyTiers { count: usize },
    #[error(transparent)]
    KvShape(#[from] KvShapeError),
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error("--context {context} is more than the {trained} tokens this model was trained for")]
    Context { context: usize, trained: usize },
    #[error(
        "prompt of {tokens} tokens does not fit a context of {context}; give a larger --context"
    )]
    PromptTooLong { tokens: usize, context: usize },
    #[error("no tokens to start from; give a prompt")]
    EmptyPrompt,
    #[error("token {token} is not in the vocabulary of {vocab} tokens")]
    UnknownToken { token: u32, vocab: usize },
    #[error("logits of token {position} are not numbers; is the model damaged?")]
    NotANumber { position: usize },
    #[error("{0}")]
    Output(String),
}

/// See the module.
pub struct Session {
    // Dropped in this order: what uses the arena before the arena.
    backend: Box<dyn Backend>,
    gatherer: Gatherer,
    stager: Stager,
    /// Lower tiers that blocks may go to, the fastest first.
    homes: Homes,
    mover: Arc<Mover>,
    /// The simulated device that the fast tier is on.
    device: Option<SimDevice>,
    table: Arc<SlotTable>,
    space: Arc<Space>,
    layout: Layout,
    manifest: Arc<Manifest>,
    resolved: Resolved,
    files: Vec<Arc<SourceFile>>,
    /// The folder of a home, locked until the session ends, and what of KV it keeps.
    spill: Option<SpillHome>,
    home_rates: Vec<f64>,
    /// The memory nodes, watched as long as the session lasts.
    nodes: Vec<NodeLink>,
    /// The first paths, which come from replicas of the model.
    origins: usize,
    /// Limits of the paths, by path id.
    limits: Vec<Option<BytesPerSec>>,
    /// Bytes that probes moved, by path id; no report counts them.
    probed: Vec<u64>,
    shake: Option<Shake>,
    /// What may shrink the budget.
    pressure: Option<UnderPressure>,
    heat: Heat,
    warm_up: WarmUp,
}

/// A tier this many times slower than another is refused beside it; links vary by less.
const SLOWER: f64 = 1.25;

/// A path into the fast tier.
#[derive(Clone, Debug)]
pub struct Inward {
    pub path: PathId,
    pub name: String,
    /// What moves its bytes.
    pub driver: &'static str,
    pub limit: Option<BytesPerSec>,
    /// Bytes that its tier can hold.
    pub capacity: u64,
}

/// The spill folder behind a home.
struct SpillHome {
    /// Number of the home.
    home: usize,
    folder: Spill,
    index: KvIndex,
}

/// Passes of a prefill.
#[derive(Clone, Copy, Debug)]
struct Prefill {
    /// Tokens whose KV is there already, and all tokens.
    start: usize,
    tokens: usize,
    /// Rows of a pass, and of them those whose logits are wanted.
    rows: usize,
    logits: usize,
    /// Buffers beside the permanent work area.
    work_bytes: u64,
}

impl Prefill {
    /// Tokens of each pass. Those of the permanent work area never cross a border between slices.
    fn passes(&self) -> Vec<usize> {
        let mut passes = Vec::new();
        let mut done = self.start;
        while done < self.tokens {
            let to_border = SLICE_TOKENS - done % SLICE_TOKENS;
            let most = if self.work_bytes == 0 {
                self.rows.min(to_border)
            } else {
                self.rows
            };
            passes.push(most.min(self.tokens - done));
            done += most;
        }
        passes
    }
}

/// The permanent work area while the buffers of a prefill stand in for it.
struct SetAside {
    work: WorkBuffers,
    gather: Extent,
}

impl Session {
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    pub fn mover(&self) -> &Mover {
        &self.mover
    }

    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    pub fn stager(&self) -> &Stager {
        &self.stager
    }

    /// Counts uses of blocks in `heat` from now on.
    pub fn set_heat(&mut self, heat: Heat) {
        self.heat = heat;
    }

    pub fn heat(&self) -> &Heat {
        &self.heat
    }

    /// Model files that are read through the page cache.
    pub fn buffered_files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.files
            .iter()
            .filter(|file| !file.is_direct())
            .map(|file| file.path())
    }

    /// The paths into the fast tier: the origin's, then one per home that is reached over a link of
    /// its own, each with its limit and the bytes that its tier can hold of what a step reads.
    pub fn inward(&self) -> Vec<Inward> {
        let is_packed = self.manifest.is_packed;
        let kv = self.layout.needs().kv.bytes_for(self.resolved.context);
        let origins = (0..self.origins).map(|origin| (PathId::new(origin), u64::MAX));
        let beside = self.homes.list.iter().filter(|home| self.is_linked(home));
        let homes = beside.map(|home| {
            let takes_weights = is_packed && !home.is_placed;
            let held = if takes_weights { u64::MAX } else { kv };
            (home.read, home.bytes().min(held))
        });
        origins
            .chain(homes)
            .map(|(path, capacity)| Inward {
                path,
                name: self.mover.paths()[path.index()].name.clone(),
                driver: self.mover.paths()[path.index()].driver,
                limit: self.limits[path.index()],
                capacity,
            })
            .collect()
    }

    /// Takes what the paths were measured to carry. Fails if a memory node is slower than a tier
    /// that has room for everything it would hold, unless it was forced.
    pub fn check_tiers(&mut self, measured: &Carried) -> Result<(), SessionError> {
        for (path, rate) in self.inward().iter().zip(&measured.alone) {
            if let Some((home, rate)) = self.home_of(path).zip(*rate) {
                self.home_rates[home] = rate;
            }
        }
        self.rehome(measured);
        let kv = self.layout.needs().kv.bytes_for(self.resolved.context);
        let homes = || self.homes.list.iter().zip(&self.home_rates);
        let slow = homes().find_map(|(slow, &slow_rate)| {
            let replaces = |home: &Home, rate: f64| home.bytes() >= kv && rate > SLOWER * slow_rate;
            let better = homes().find(|(home, rate)| replaces(home, **rate))?;
            let is_wanted = slow.is_forced || slow.is_placed || slow.is_origin;
            let counts = slow.lent.is_some() && !is_wanted;
            counts.then_some((slow, slow_rate, better.0, *better.1))
        });
        let Some((slow, slow_rate, fast, fast_rate)) = slow else {
            return Ok(());
        };
        Err(SessionError::SlowTier {
            slow: slow.name.clone(),
            slow_mb_s: slow_rate / 1e6,
            fast: fast.name.clone(),
            fast_mb_s: fast_rate / 1e6,
        })
    }

    /// Deals the blocks of a packed model out by what the paths were measured to carry beside each
    /// other.
    fn rehome(&mut self, measured: &Carried) {
        let origins = (0..self.origins).filter_map(|n| measured.of(n));
        let origin: f64 = origins.sum();
        let is_placed = self.layout.needs().is_placed;
        if origin == 0.0 || !self.manifest.is_packed || is_placed {
            return;
        }
        let homes = self.homes.list.iter().zip(&self.home_rates);
        let mut rates: Vec<f64> = homes
            // The node of the model would only hold its weights twice.
            .map(|(home, &rate)| if home.is_origin { 0.0 } else { rate })
            .collect();
        for (place, path) in self.inward().iter().enumerate().skip(self.origins) {
            if let Some((home, rate)) = self.home_of(path).zip(measured.of(place)) {
                rates[home] = rate;
            }
        }
        let reserve = self.layout.needs().kv.bytes_for(self.resolved.context);
        let supply = self.stager.supply().clone();
        let supply = supply.with_homes(&self.layout, origin, &rates, reserve);
        self.stager.set_supply(supply);
    }

    /// The first of [`Session::inward`], which come from replicas of the model.
    pub const fn origins(&self) -> usize {
        self.origins
    }

    /// The memory nodes, in the order they were given.
    pub fn nodes(&self) -> &[NodeLink] {
        &self.nodes
    }

    /// Homes of KV and weights, the fastest first.
    pub fn homes(&self) -> &[Home] {
        &self.homes.list
    }

    /// Weights that are given to each home, in bytes; those that never stream stay away.
    pub fn homed_bytes(&self) -> Vec<u64> {
        self.stager.supply().homed_bytes(self.homes.list.len())
    }

    /// The tiers and paths, for a timeline.
    pub fn watched(&self) -> Watched {
        let (name, space) = (self.resolved.fast_name.to_owned(), &self.space);
        let homes = self.homes.list.iter();
        let homes = homes.map(|home| (home.name.clone(), home.bytes(), Arc::clone(&home.space)));
        let fast = (name, space.len(), Arc::clone(space));
        Watched {
            spaces: [fast].into_iter().chain(homes).collect(),
            mover: Arc::clone(&self.mover),
        }
    }

    /// Bytes that the copy engine of the fast tier's device has moved, in and out.
    pub fn copied_bytes(&self) -> Option<(u64, u64)> {
        let counters = self.device.as_ref()?.counters();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some((read(&counters.bytes_in), read(&counters.bytes_out)))
    }

    /// What the spill folders have to say.
    pub fn spill_notes(&self) -> impl Iterator<Item = &String> {
        let folder = self.spill.iter().map(|spill| &spill.folder);
        folder.flat_map(Spill::notes)
    }

    /// Bytes that probes moved, by path id.
    pub fn probed(&self) -> &[u64] {
        &self.probed
    }

    /// Name of the backend, for the report.
    pub fn backend_name(&self) -> String {
        self.backend.name()
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), SessionError> {
        let (vocab, context) = (self.manifest.config.vocab, self.resolved.context);
        if tokens.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(SessionError::UnknownToken { token, vocab });
        }
        if tokens.len() > context {
            return Err(SessionError::PromptTooLong {
                tokens: tokens.len(),
                context,
            });
        }
        Ok(())
    }

    /// An empty sequence that will have `tokens` tokens at most, after a prefill of `prefill`. Its
    /// slices may have to stream, or some of them do so from the start.
    fn sequence(&self, tokens: usize, prefill: &Prefill, starts_at_home: bool) -> Sequence {
        let kv = self.layout.needs().kv.clone();
        let frames = self.layout.kv_frames(prefill.work_bytes);
        let fits = kv.blocks_for(tokens) * kv.layers <= frames;
        // Under a budget that may shrink, any slice may have to go.
        let stays = fits && !starts_at_home && self.pressure.is_none();
        let stream = if self.homes.list.is_empty() || stays {
            0
        } else {
            self.layout.stream_frames(frames, prefill.rows)
        };
        let (homes, space) = (self.homes.clone(), Arc::clone(&self.space));
        Sequence::new(kv, homes, space, (frames, stream))
    }

    /// Makes room for `tokens` tokens in all: the weights give way where they must.
    fn reserve(&mut self, sequence: &mut Sequence, tokens: usize) -> Result<(), KvError> {
        let blocks = self.layout.needs().kv.blocks_for(tokens);
        if sequence.blocks() < blocks {
            let border = self.layout.kv_border(tokens, 0);
            self.stager.set_border(border)?;
            sequence.reserve(tokens)?;
            self.give_back(border);
        }
        Ok(())
    }

    /// How a prompt of `tokens` tokens is prefilled, with at most `logits` rows of logits a pass.
    fn prefill_of(&self, tokens: usize, logits: usize) -> Prefill {
        let rows = self.layout.prefill_rows(tokens, logits);
        let most = self.resolved.prefill_rows.unwrap_or(usize::MAX).max(1);
        let rows = rows.min(most);
        let logits = logits.min(rows);
        let work_bytes = if rows <= self.backend.rows_max() {
            0
        } else {
            self.layout.needs().work_bytes(rows, logits)
        };
        Prefill {
            start: 0,
            tokens,
            rows,
            logits,
            work_bytes,
        }
    }

    /// Swaps in work buffers for the passes of a prefill, below the KV of its tokens; `None` if
    /// the permanent ones do.
    fn enter_prefill(&mut self, prefill: &Prefill) -> Result<Option<SetAside>, SessionError> {
        let bytes = prefill.work_bytes;
        self.note_prefill(Some(*prefill));
        let top = self.layout.kv_border(prefill.tokens, bytes);
        self.stager.set_border(top - bytes)?;
        if bytes == 0 {
            return Ok(None);
        }
        let needs = self.layout.needs().clone();
        let (rows, logits) = (prefill.rows, prefill.logits);
        // What a move that was given up still holds comes back with its last operation.
        let placed = given_back(self.mover(), || {
            let next = Cell::new(top - bytes);
            let place = |space: &Arc<Space>, len: u64| {
                let at = next.replace(next.get() + len.next_multiple_of(GRANULE));
                space.alloc_at(at, len)
            };
            let work = WorkBuffers::new(&needs.work, rows, logits, &self.space, place)?;
            let gather = place(&self.space, needs.gather_bytes(rows))?;
            Some((work, gather))
        });
        let (work, gather) = placed.ok_or(KvError::Full { bytes })?;
        let work = self
            .backend
            .set_work(work)
            .expect("the permanent buffers were set");
        let gather = self
            .gatherer
            .set_extent(gather)
            .expect("no batch is leased between steps");
        Ok(Some(SetAside { work, gather }))
    }

    /// Puts the permanent work buffers back.
    fn put_back(&mut self, aside: Option<SetAside>) {
        self.note_prefill(None);
        if let Some(SetAside { work, gather }) = aside {
            drop(self.backend.set_work(work));
            drop(self.gatherer.set_extent(gather));
        }
    }

    /// The buffers of a prefill are gone: KV and weights grow into the room again.
    fn leave_prefill(&mut self, sequence: &mut Sequence, steps: u64) -> Result<(), KvError> {
        self.layout.hold_back(0);
        sequence.plan(self.layout.kv_frames(0), steps)?;
        self.follow_budget(sequence)
    }
}
