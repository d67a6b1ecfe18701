//! Generation: prefill in passes over the blocks, then one step per token.

use crate::backend::work::Buf;
use crate::graph::{LogitRows, Machine, StepInput};
use crate::kv::kept::KvKey;
use crate::kv::{KvError, Sequence};
use crate::session::{Prefill, Session, SessionError};
use crate::stager::Passes;
use larder_cpu::Class;
use larder_pool::units::PathId;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions<'a> {
    pub prompt: &'a [u32],
    /// Tokens to generate, at most.
    pub count: usize,
    /// Tokens that end the text; they are not part of it.
    pub stop: &'a [u32],
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// As many as asked for.
    Count,
    /// A stop token.
    Stop,
    /// No room left in the context.
    Context,
    /// The caller had enough.
    Caller,
}

/// A text that is being generated.
struct Text<'a> {
    prompt: &'a [u32],
    /// Names of the blocks of the prompt.
    names: &'a [KvKey],
    /// Tokens to generate, at most.
    count: usize,
}

/// Times that the KV of a text is computed again; a node that comes and goes takes no more.
const LOSSES_MAX: usize = 16;

/// What a path did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathUse {
    pub bytes: u64,
    /// Time in which its window was full.
    pub busy: Duration,
    /// Blocks that somebody waited for, and how long from when they were a demand, together.
    pub demands: u64,
    pub demand: Duration,
}

impl PathUse {
    /// What was done since `earlier`.
    const fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes - earlier.bytes,
            busy: self.busy.saturating_sub(earlier.busy),
            demands: self.demands - earlier.demands,
            demand: self.demand.saturating_sub(earlier.demand),
        }
    }
}

/// What was generated, and how long it took.
#[derive(Clone, Debug)]
pub struct Generated {
    pub tokens: Vec<u32>,
    pub stop: StopReason,
    /// Tokens of the prompt whose KV was kept from an earlier text.
    pub reused: usize,
    /// Times that KV was lost.
    pub losses: usize,
    /// Tokens whose KV was computed again because it was lost.
    pub recomputed: usize,
    /// From the call to the first token.
    pub first_token: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// Steps in that time.
    pub decode_steps: usize,
    /// What each path did in that time, by path id.
    pub decode_paths: Vec<PathUse>,
    /// Time the engine slept for blocks in that time.
    pub decode_stall: Duration,
}

impl Session {
    /// Generates tokens after a prompt. `pick` chooses a token from the logits of a row (and may
    /// fail), `emit` sees each token and says whether to go on.
    pub fn generate(
        &mut self,
        options: &GenerateOptions<'_>,
        mut pick: impl FnMut(&mut [f32]) -> Result<u32, SessionError>,
        mut emit: impl FnMut(u32) -> bool,
    ) -> Result<Generated, SessionError> {
        let start = Instant::now();
        self.check_tokens(options.prompt)?;
        self.end_warm()?;
        let room = self.resolved.context - options.prompt.len() + 1;
        let count = options.count.min(room);
        let names = self.prefix_keys(options.prompt);
        let text = Text {
            prompt: options.prompt,
            names: &names,
            count,
        };
        let mut logits = vec![0.0; self.manifest.config.vocab];
        let mut losses = 0;
        let (mut sequence, reused) = self.start(&text, &[], &mut logits, &mut losses)?;

        let mut made = Generated {
            tokens: Vec::with_capacity(count),
            stop: if count < options.count {
                StopReason::Context
            } else {
                StopReason::Count
            },
            reused,
            losses,
            recomputed: 0,
            first_token: start.elapsed(),
            decode: Duration::ZERO,
            decode_steps: 0,
            decode_paths: Vec::new(),
            decode_stall: Duration::ZERO,
        };
        self.stager.start_decode();
        let begun = Instant::now();
        let before = (self.path_use(), self.stall(&sequence));
        while made.tokens.len() < count {
            let token = pick(&mut logits)?;
            if options.stop.contains(&token) {
                made.stop = StopReason::Stop;
                break;
            }
            made.tokens.push(token);
            if !emit(token) {
                made.stop = StopReason::Caller;
                break;
            }
            if made.tokens.len() < count {
                self.next(&text, &mut made, &mut sequence, &mut logits)?;
            }
        }
        made.decode = begun.elapsed();
        made.decode_paths = self.path_use();
        for (path, before) in made.decode_paths.iter_mut().zip(before.0) {
            *path = path.since(before);
        }
        made.decode_stall = self.stall(&sequence).saturating_sub(before.1);
        self.keep_prefix(sequence, &names);
        Ok(made)
    }

    /// The step behind the last token that was made. KV that is lost is computed again first.
    fn next(
        &mut self,
        text: &Text<'_>,
        made: &mut Generated,
        sequence: &mut Sequence,
        logits: &mut [f32],
    ) -> Result<(), SessionError> {
        let token = *made.tokens.last().expect("a token was made");
        match self.decode(sequence, token, logits) {
            Err(SessionError::Kv(KvError::Lost { .. })) if made.losses < LOSSES_MAX => {
                made.losses += 1;
                made.recomputed += sequence.len();
                // What is left of it makes room.
                let empty = self.sequence(0, &self.prefill_of(1, 1), false);
                drop(std::mem::replace(sequence, empty));
                (*sequence, _) = self.start(text, &made.tokens, logits, &mut made.losses)?;
            }
            outcome => outcome?,
        }
        made.decode_steps += 1;
        Ok(())
    }

    /// What each path has done so far, by path id.
    pub fn path_use(&self) -> Vec<PathUse> {
        let count = self.mover.paths().len();
        let paths = (0..count).map(|path| self.mover.counters(PathId::new(path)));
        paths
            .map(|counters| PathUse {
                bytes: counters.bytes.load(Ordering::Relaxed),
                busy: Duration::from_nanos(counters.busy_ns.load(Ordering::Relaxed)),
                demands: counters.demands.load(Ordering::Relaxed),
                demand: Duration::from_nanos(counters.demand_ns.load(Ordering::Relaxed)),
            })
            .collect()
    }

    /// Time that the engine slept for weights and KV so far.
    fn stall(&self, sequence: &Sequence) -> Duration {
        self.stager.counters().stall + sequence.stall()
    }

    /// The KV of a text after `made` generated tokens, and how many tokens of the prompt were kept
    /// from before; the logits of its last token stand in `logits`. What is computed again is
    /// computed by the kernels that made it first, so it is the same bit for bit. KV that is lost
    /// meanwhile is started over, [`LOSSES_MAX`] times in all.
    fn start(
        &mut self,
        text: &Text<'_>,
        made: &[u32],
        logits: &mut [f32],
        losses: &mut usize,
    ) -> Result<(Sequence, usize), SessionError> {
        let tokens = text.prompt.len() + text.count.saturating_sub(1);
        loop {
            let mut prefill = self.prefill_of(text.prompt.len(), 1);
            let mut sequence = self.sequence(tokens, &prefill, self.has_prefix(text.names));
            prefill.start = self.adopt_prefix(&mut sequence, text.names);
            self.stager.start_text();
            let mut run = || -> Result<(), SessionError> {
                self.prefill(&mut sequence, (text.prompt, prefill), text.count, logits)?;
                for &token in made {
                    self.decode(&mut sequence, token, logits)?;
                }
                Ok(())
            };
            match run() {
                Ok(()) => return Ok((sequence, prefill.start)),
                Err(SessionError::Kv(KvError::Lost { .. })) if *losses < LOSSES_MAX => {
                    *losses += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs the prompt; the logits of its last token come back.
    fn prefill(
        &mut self,
        sequence: &mut Sequence,
        (prompt, prefill): (&[u32], Prefill),
        count: usize,
        logits: &mut [f32],
    ) -> Result<(), SessionError> {
        let aside = self.enter_prefill(&prefill)?;
        let full = 1 + count.saturating_sub(1) as u64;
        let outcome = self.passes(sequence, (prompt, prefill), full);
        if outcome.is_ok() {
            self.backend.download(Buf::Logits, 0, logits);
        }
        // The permanent buffers come back however the passes ended.
        self.put_back(aside);
        outcome?;
        self.leave_prefill(sequence, full - 1)?;
        Ok(())
    }

    /// The passes of a prefill, of which `full` passes over all blocks follow.
    fn passes(
        &mut self,
        sequence: &mut Sequence,
        (prompt, prefill): (&[u32], Prefill),
        full: u64,
    ) -> Result<(), KvError> {
        let passes = prefill.passes();
        let chunks = passes.len() as u64;
        let frames = self.layout.kv_frames(prefill.work_bytes);
        sequence.plan(frames, chunks - 1 + full)?;
        self.stager.expect(Passes {
            body: chunks - 1,
            full,
        })?;
        for (index, rows) in passes.into_iter().enumerate() {
            let chunk = &prompt[sequence.len()..][..rows];
            let is_last = index as u64 == chunks - 1;
            let wanted = if is_last {
                LogitRows::Last
            } else {
                LogitRows::None
            };
            sequence.reserve(sequence.len() + chunk.len())?;
            self.step(sequence, Class::Chunk, chunk, wanted)?;
        }
        Ok(())
    }

    fn decode(
        &mut self,
        sequence: &mut Sequence,
        token: u32,
        logits: &mut [f32],
    ) -> Result<(), SessionError> {
        self.reserve(sequence, sequence.len() + 1)?;
        self.step(sequence, Class::Step, &[token], LogitRows::Last)?;
        self.backend.download(Buf::Logits, 0, logits);
        Ok(())
    }

    pub(super) fn step(
        &mut self,
        sequence: &mut Sequence,
        class: Class,
        tokens: &[u32],
        logits: LogitRows,
    ) -> Result<(), KvError> {
        self.stager.supply().look_after();
        let mut machine = Machine {
            manifest: &self.manifest,
            backend: self.backend.as_mut(),
            stager: &mut self.stager,
            gatherer: &mut self.gatherer,
            sequence,
            heat: &self.heat,
            pending: VecDeque::new(),
            attending: Vec::new(),
        };
        machine.step(StepInput {
            class,
            tokens,
            logits,
        })?;
        self.heat.fade();
        self.shake_step(sequence)?;
        self.pressure_step(sequence)
    }
}
