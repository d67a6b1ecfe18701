//! A session: one model opened under one budget, ready to generate and to score.
//!
//! Opening resolves the budget and the context, divides the arena, starts the mover and the
//! kernels. Nothing of the weights is read before the first step.

mod generate;
mod open;
mod probe;
mod score;

pub use generate::{GenerateOptions, Generated, StopReason};
pub use open::{Resolved, SessionOptions, resolve};

use crate::backend::Backend;
use crate::backend::work::WorkBuffers;
use crate::gather::Gatherer;
use crate::kv::{KvFull, Sequence};
use crate::layout::{Layout, TooSmall};
use crate::manifest::Manifest;
use crate::stager::Stager;
use larder_cpu::{IsaError, KvError};
use larder_pool::mover::Mover;
use larder_pool::sys::file::{FileError, SourceFile};
use larder_pool::sys::lease::SlotTable;
use larder_pool::sys::mapping::{BindError, MapError};
use larder_pool::sys::space::{Extent, Space};
use larder_pool::transfer::MoveError;
use std::sync::Arc;

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
    Map(#[from] MapError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    KvFull(#[from] KvFull),
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
    mover: Arc<Mover>,
    table: Arc<SlotTable>,
    space: Arc<Space>,
    layout: Layout,
    manifest: Arc<Manifest>,
    resolved: Resolved,
    files: Vec<Arc<SourceFile>>,
    /// Bytes that probes moved, which no report counts.
    probed_bytes: u64,
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

    /// Model files that are read through the page cache.
    pub fn buffered_files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.files
            .iter()
            .filter(|file| !file.is_direct())
            .map(|file| file.path())
    }

    /// Bytes that probes moved.
    pub const fn probed_bytes(&self) -> u64 {
        self.probed_bytes
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

    /// An empty sequence with room for `tokens` tokens.
    fn sequence(&mut self, tokens: usize) -> Result<Sequence, SessionError> {
        let kv = self.layout.needs().kv.clone();
        let mut sequence = Sequence::new(kv, Arc::clone(&self.table), Arc::clone(&self.space));
        self.reserve(&mut sequence, tokens)?;
        Ok(sequence)
    }

    /// Makes room for `tokens` tokens in all: the fixed set gives way where it must.
    fn reserve(&mut self, sequence: &mut Sequence, tokens: usize) -> Result<(), SessionError> {
        if sequence.is_empty() || sequence.bytes_missing(tokens) > 0 {
            self.stager.set_border(self.layout.kv_border(tokens))?;
            sequence.reserve(tokens)?;
        }
        Ok(())
    }

    /// Rows of each prefill pass over a prompt of `tokens` tokens.
    fn prefill_rows(&self, tokens: usize, logits: usize) -> usize {
        let rows = self
            .layout
            .prefill_rows(tokens, self.layout.kv_border(tokens), logits);
        self.resolved
            .prefill_rows
            .map_or(rows, |most| rows.min(most.max(1)))
    }

    /// Swaps in work buffers for prefill steps of `rows` rows with `logits` rows of logits, below
    /// the KV of `tokens` tokens; `None` if the permanent ones do.
    fn enter_prefill(
        &mut self,
        rows: usize,
        logits: usize,
        tokens: usize,
    ) -> Result<Option<SetAside>, SessionError> {
        if rows <= self.backend.rows_max() {
            return Ok(None);
        }
        let needs = self.layout.needs().clone();
        let bytes = needs.work_bytes(rows, logits);
        self.stager
            .set_border(self.layout.kv_border(tokens) - bytes)?;
        let full = KvFull { bytes };
        let Some(work) =
            WorkBuffers::new(&needs.work, rows, logits, &self.space, Space::alloc_high)
        else {
            return Err(full.into());
        };
        let gather = self
            .space
            .alloc_high(needs.gather_bytes(rows))
            .ok_or(full)?;
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

    /// Puts the permanent work buffers back; the fixed set grows into the room again.
    fn leave_prefill(&mut self, aside: Option<SetAside>, tokens: usize) -> Result<(), MoveError> {
        let Some(SetAside { work, gather }) = aside else {
            return Ok(());
        };
        drop(self.backend.set_work(work));
        drop(self.gatherer.set_extent(gather));
        self.stager.set_border(self.layout.kv_border(tokens))
    }
}
