//! Generation: prefill in passes over the blocks, then one step per token.

use crate::backend::work::Buf;
use crate::graph::{LogitRows, Machine, StepInput};
use crate::kv::Sequence;
use crate::session::{Session, SessionError};
use crate::stager::Passes;
use larder_cpu::Class;
use larder_pool::path::PathCounters;
use larder_pool::transfer::MoveError;
use larder_pool::units::PathId;
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

/// What was generated, and how long it took.
#[derive(Clone, Debug)]
pub struct Generated {
    pub tokens: Vec<u32>,
    pub stop: StopReason,
    /// From the call to the first token.
    pub first_token: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// Steps in that time.
    pub decode_steps: usize,
    /// Bytes that the path moved in that time, and its busy time.
    pub decode_bytes: u64,
    pub decode_busy: Duration,
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
        let room = self.resolved.context - options.prompt.len() + 1;
        let count = options.count.min(room);
        let mut sequence = self.sequence(options.prompt.len())?;
        let mut logits = vec![0.0; self.manifest.config.vocab];
        self.prefill(&mut sequence, options.prompt, count, &mut logits)?;

        let mut made = Generated {
            tokens: Vec::with_capacity(count),
            stop: if count < options.count {
                StopReason::Context
            } else {
                StopReason::Count
            },
            first_token: start.elapsed(),
            decode: Duration::ZERO,
            decode_steps: 0,
            decode_bytes: 0,
            decode_busy: Duration::ZERO,
            decode_stall: Duration::ZERO,
        };
        let begun = Instant::now();
        let before = self.mark();
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
                self.decode(&mut sequence, token, &mut logits)?;
                made.decode_steps += 1;
            }
        }
        made.decode = begun.elapsed();
        let after = self.mark();
        made.decode_bytes = after.0 - before.0;
        made.decode_busy = after.1.saturating_sub(before.1);
        made.decode_stall = after.2.saturating_sub(before.2);
        Ok(made)
    }

    /// Bytes moved, busy time of the path and stall so far.
    fn mark(&self) -> (u64, Duration, Duration) {
        let counters: &PathCounters = self.mover.counters(PathId::new(0));
        let busy = Duration::from_nanos(counters.busy_ns.load(Ordering::Relaxed));
        (
            counters.bytes.load(Ordering::Relaxed),
            busy,
            self.stager.counters().stall,
        )
    }

    /// Runs the prompt; the logits of its last token come back.
    fn prefill(
        &mut self,
        sequence: &mut Sequence,
        prompt: &[u32],
        count: usize,
        logits: &mut [f32],
    ) -> Result<(), SessionError> {
        let tokens = prompt.len();
        let rows = self.prefill_rows(tokens, 1);
        let aside = self.enter_prefill(rows, 1, tokens)?;
        let chunks = tokens.div_ceil(rows) as u64;
        let full = 1 + count.saturating_sub(1) as u64;
        self.stager.expect(Passes {
            body: chunks - 1,
            full,
        })?;
        for (index, chunk) in prompt.chunks(rows).enumerate() {
            let is_last = index as u64 == chunks - 1;
            let wanted = if is_last {
                LogitRows::Last
            } else {
                LogitRows::None
            };
            self.step(sequence, Class::Chunk, chunk, wanted)?;
        }
        self.backend.download(Buf::Logits, 0, logits);
        self.leave_prefill(aside, tokens)?;
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
    ) -> Result<(), MoveError> {
        let mut machine = Machine {
            manifest: &self.manifest,
            backend: self.backend.as_mut(),
            stager: &mut self.stager,
            gatherer: &mut self.gatherer,
            sequence,
        };
        machine.step(StepInput {
            class,
            tokens,
            logits,
        })
    }
}
