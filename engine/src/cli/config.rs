//! Options as typed, resolved to what the engine takes.

use super::error::CliError;
use super::options::{EngineArgs, KernelsArg, KvTypeArg, SamplingArgs, WindowArg};
use super::size::parse_size;
use super::tier::{TierSpec, parse_tier};
use crate::meter::DiskOptions;
use crate::sample::SampleOptions;
use crate::session::{LowerTier, SessionOptions};
use larder_cpu::{Isa, KvType};
use larder_ebpf::{DEFAULT_ROOT, Pins};
use larder_pool::path::Sizing;
use larder_pool::sys::limits::available_bytes;
use larder_pool::units::BytesPerSec;
use std::cell::LazyCell;
use std::path::PathBuf;

/// Threads that can be asked for.
const THREADS_MAX: usize = 1024;

/// Where this user's caches are, if anybody says so.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    // A relative one is to be ignored. Source: XDG Base Directory Specification 0.8.
    let given = folder("XDG_CACHE_HOME").filter(|caches| caches.is_absolute());
    given.or_else(|| Some(folder("HOME")?.join(".cache")).filter(|caches| caches.is_absolute()))
}

fn usage<T>(result: Result<T, String>) -> Result<T, CliError> {
    result.map_err(CliError::Usage)
}

/// What the tier specifications add up to.
#[derive(Debug, Default)]
struct Tiers {
    fast_bytes: Option<u64>,
    node: Option<u32>,
    /// The fast tier is a simulated device.
    is_device: bool,
    /// Of the paths from the model files, and of every path to and from the fast tier.
    origin_limit: Option<BytesPerSec>,
    fast_limit: Option<BytesPerSec>,
    lower: Vec<LowerTier>,
}

impl Tiers {
    fn read(specs: &[String], whole: impl Fn() -> u64) -> Result<Self, String> {
        let mut tiers = Self::default();
        let mut names = Vec::new();
        for text in specs {
            let spec = parse_tier(text, &whole)?;
            let name = spec.name();
            if name != "remote" && names.contains(&name) {
                return Err(format!("--tier {name}: given twice; give one"));
            }
            names.push(name);
            match spec {
                TierSpec::Origin { limit } => tiers.origin_limit = limit,
                TierSpec::Dram { bytes, node, limit } => {
                    tiers.set_fast(bytes)?;
                    (tiers.node, tiers.fast_limit) = (node, limit);
                }
                TierSpec::Hbm { bytes, limit } => {
                    tiers.set_fast(bytes)?;
                    (tiers.is_device, tiers.fast_limit) = (true, limit);
                }
                TierSpec::Lower(lower) => tiers.lower.push(lower),
            }
        }
        Ok(tiers)
    }

    fn set_fast(&mut self, bytes: u64) -> Result<(), String> {
        match self.fast_bytes.replace(bytes) {
            Some(dram) if dram != bytes => Err(format!(
                "the fast tier has two sizes, {bytes} and {dram} bytes; give one"
            )),
            _ => Ok(()),
        }
    }
}

impl KernelsArg {
    /// The instruction set, if this CPU has it.
    fn resolve(self) -> Result<Isa, CliError> {
        let isa = match self {
            Self::Auto => Isa::detect(),
            Self::Reference => Isa::Reference,
            Self::Portable => Isa::Portable,
            Self::Avx2 => Isa::Avx2,
            Self::Avx512 => Isa::Avx512,
        };
        usage(isa.check().map_err(|error| format!("--{error}")))?;
        Ok(isa)
    }
}

impl EngineArgs {
    /// Checks what was typed against itself and this machine.
    pub(super) fn resolve(&self) -> Result<SessionOptions, CliError> {
        // Measured at most once, so that two shares are of the same whole.
        let available = LazyCell::new(available_bytes);
        let mut tiers = usage(Tiers::read(&self.tier, || *available))?;
        if let Some(text) = &self.fast {
            let size = parse_size(text, || *available).map_err(|e| format!("--fast: {e}"));
            usage(size.and_then(|bytes| tiers.set_fast(bytes)))?;
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
            fast_bytes: tiers.fast_bytes,
            context: self.context,
            kv_type: match self.kv_type {
                KvTypeArg::Auto => None,
                KvTypeArg::F32 => Some(KvType::F32),
                KvTypeArg::F16 => Some(KvType::F16),
                KvTypeArg::Q8 => Some(KvType::Q8),
            },
            isa: self.kernels.resolve()?,
            threads,
            origin_limit: tiers.origin_limit,
            fast_limit: tiers.fast_limit,
            node: tiers.node,
            is_device: tiers.is_device,
            lower: tiers.lower,
            prefill_rows: None,
            may_shrink: false,
            disks: DiskOptions {
                sizing: match self.window {
                    WindowArg::Fixed => Sizing::Fixed,
                    WindowArg::Latency => Sizing::Latency,
                },
                pins: Some(Pins::new(DEFAULT_ROOT)),
            },
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

#[cfg(test)]
mod tests {
    use super::super::options::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn resolve(arguments: &[&str]) -> Result<SessionOptions, String> {
        let cli = Cli::try_parse_from(["larder", "plan", "m.gguf"].iter().chain(arguments))
            .map_err(|error| error.to_string())?;
        let Command::Plan(plan) = cli.command else {
            panic!("plan was typed");
        };
        plan.engine.resolve().map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })
    }

    #[test]
    fn nothing_typed_leaves_the_choice_to_the_engine() {
        let options = resolve(&[]).expect("defaults");
        assert_eq!(options.fast_bytes, None);
        assert_eq!(options.context, None);
        assert_eq!(options.kv_type, None);
        assert_eq!(options.origin_limit, None);
        assert_eq!(options.isa, Isa::detect());
        assert!(options.threads >= 1);
    }

    #[test]
    fn the_fast_tier_and_its_link_come_from_either_option() {
        for arguments in [
            &["--fast", "2MiB", "--tier", "origin,limit=5MB/s"][..],
            &["--tier", "dram=2MiB", "--tier", "origin,limit=5MB/s"],
            &[
                "--fast",
                "2MiB",
                "--tier",
                "dram=2048KiB",
                "--tier",
                "origin,limit=5MB",
            ],
        ] {
            let options = resolve(arguments).expect("good use");
            assert_eq!(options.fast_bytes, Some(2 << 20), "{arguments:?}");
            assert_eq!(options.origin_limit, BytesPerSec::new(5e6), "{arguments:?}");
        }
        let half = resolve(&["--fast", "50%", "--tier", "dram=50%"]).expect("one whole");
        assert!(half.fast_bytes > Some(0));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, part) in [
            (&["--fast", "some"][..], "--fast: 'some'"),
            (&["--fast", "1MiB", "--tier", "dram=2MiB"], "two sizes"),
            (
                &["--tier", "origin", "--tier", "origin"],
                "origin: given twice",
            ),
            (
                &["--tier", "dram=1", "--tier", "dram=1"],
                "dram: given twice",
            ),
            (&["--tier", "vfio=0000:03:00.0"], "no such tier yet"),
            (
                &["--tier", "hbm=sim,1MiB", "--tier", "dram=2MiB"],
                "two sizes",
            ),
            (&["--threads", "0"], "--threads 0"),
            (&["--context", "0"], "--context 0"),
            (&["--kernels", "mmx"], "possible values"),
        ] {
            let error = resolve(arguments).expect_err(part);
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn kernels_that_this_cpu_lacks_are_bad_use() {
        for (arg, isa) in [("avx2", Isa::Avx2), ("avx512", Isa::Avx512)] {
            match (resolve(&["--kernels", arg]), isa.check()) {
                (Ok(options), Ok(())) => assert_eq!(options.isa, isa),
                (Err(said), Err(error)) => assert!(said.contains(&error.missing), "{said}"),
                (found, check) => panic!("{arg}: {found:?} but {check:?}"),
            }
        }
    }
}
