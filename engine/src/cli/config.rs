//! Options as typed, resolved to what the engine takes.

use super::error::CliError;
use super::options::{EngineArgs, KernelsArg, KvTypeArg, SamplingArgs};
use super::size::parse_size;
use super::tier::{TierSpec, parse_tier};
use crate::sample::SampleOptions;
use crate::session::SessionOptions;
use larder_cpu::{Isa, KvType};
use larder_pool::sys::limits::available_bytes;
use larder_pool::units::BytesPerSec;

/// Threads that can be asked for.
const THREADS_MAX: usize = 1024;

fn usage<T>(result: Result<T, String>) -> Result<T, CliError> {
    result.map_err(CliError::Usage)
}

impl EngineArgs {
    /// Checks what was typed against itself and this machine.
    pub(super) fn resolve(&self) -> Result<SessionOptions, CliError> {
        let mut fast_bytes = None;
        if let Some(text) = &self.fast {
            let size = parse_size(text, available_bytes).map_err(|e| format!("--fast: {e}"));
            fast_bytes = Some(usage(size)?);
        }
        let mut origin_limit: Option<BytesPerSec> = None;
        let mut numa_node = None;
        for text in &self.tier {
            match usage(parse_tier(text))? {
                TierSpec::Origin { limit } => origin_limit = limit.or(origin_limit),
                TierSpec::Dram { bytes, node } => match fast_bytes {
                    Some(fast) if fast != bytes => {
                        return Err(CliError::Usage(format!(
                            "--fast and --tier dram give two sizes, {fast} and {bytes} bytes; give one"
                        )));
                    }
                    _ => (fast_bytes, numa_node) = (Some(bytes), node),
                },
            }
        }
        let threads = match self.threads {
            Some(count @ 1..=THREADS_MAX) => count,
            Some(count) => {
                let text = format!("--threads {count}: give 1 to {THREADS_MAX}");
                return Err(CliError::Usage(text));
            }
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        if self.context == Some(0) {
            return Err(CliError::Usage(
                "--context 0: give at least one token".to_owned(),
            ));
        }
        Ok(SessionOptions {
            fast_bytes,
            context: self.context,
            kv_type: match self.kv_type {
                KvTypeArg::Auto => None,
                KvTypeArg::F32 => Some(KvType::F32),
                KvTypeArg::F16 => Some(KvType::F16),
                KvTypeArg::Q8 => Some(KvType::Q8),
            },
            isa: match self.kernels {
                KernelsArg::Auto => Isa::detect(),
                KernelsArg::Reference => Isa::Reference,
                KernelsArg::Portable => Isa::Portable,
                KernelsArg::Avx2 => Isa::Avx2,
                KernelsArg::Avx512 => Isa::Avx512,
            },
            threads,
            origin_limit,
            node: numa_node,
            prefill_rows: None,
        })
    }
}

impl SamplingArgs {
    pub(super) fn resolve(&self) -> Result<SampleOptions, CliError> {
        let Self {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            seed,
        } = *self;
        let checks = [
            (
                "--temperature",
                temperature,
                (0.0..=100.0).contains(&temperature),
                "0 to 100",
            ),
            (
                "--top-p",
                top_p,
                top_p > 0.0 && top_p <= 1.0,
                "above 0, at most 1",
            ),
            ("--min-p", min_p, (0.0..=1.0).contains(&min_p), "0 to 1"),
            (
                "--repeat-penalty",
                repeat_penalty,
                repeat_penalty > 0.0 && repeat_penalty <= 100.0,
                "above 0, at most 100",
            ),
        ];
        if let Some((flag, value, _, range)) = checks.iter().find(|(_, _, is_good, _)| !is_good) {
            return Err(CliError::Usage(format!("{flag} {value}: give {range}")));
        }
        Ok(SampleOptions {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            seed,
        })
    }
}
