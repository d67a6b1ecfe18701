//! Options of the commands about a host, not a model.

use super::{EngineArgs, SpeedOptions, WarmArgs};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(in crate::cli) struct DoctorOptions {
    /// Check that this much memory can be had: bytes, 512KiB, 8GiB, or 50% of what is free
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) fast: Option<String>,
    /// Check that this tier works, as larder run takes it; may be given several times
    #[arg(long, value_name = "SPEC")]
    pub(in crate::cli) tier: Vec<String>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TopoOptions {
    /// Files, 16 MiB or larger, whose disks are measured by reading them
    pub(in crate::cli) files: Vec<PathBuf>,
    /// Measure this tier too, as larder run takes it; may be given several times
    #[arg(long, value_name = "SPEC")]
    pub(in crate::cli) tier: Vec<String>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ConfigOptions {
    #[command(subcommand)]
    pub(in crate::cli) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ConfigCommand {
    /// Check every key and value of a file for --config
    Check {
        /// TOML file with a section per command, [node] or [run], whose keys are its long options
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(in crate::cli) struct BenchOptions {
    #[command(subcommand)]
    pub(in crate::cli) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(in crate::cli) speed: SpeedOptions,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BenchCommand {
    /// Replay traces through caches under each placement policy
    Policy(PolicyOptions),
    /// Time several texts of one session: the first beside the same one later
    Turns(TurnsOptions),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TurnsOptions {
    /// GGUF file (or its first shard), folder with config.json and safetensors, or remote://NAME
    pub(in crate::cli) model: PathBuf,
    /// A prompt; may be given several times: turns take them in order, again and again
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(in crate::cli) prompt: Vec<String>,
    /// As --prompt, as token ids, 1,2,3 [default: 1 to 16]
    #[arg(long, value_name = "IDS", conflicts_with = "prompt")]
    pub(in crate::cli) prompt_tokens: Vec<String>,
    /// Tokens to generate in each turn; the end token ends none
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64)]
    pub(in crate::cli) count: usize,
    /// Turns
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(in crate::cli) turns: usize,
    /// With --warm, seconds until the first turn at most [default: until everything has come]
    #[arg(long, value_name = "SECONDS", requires = "warm")]
    pub(in crate::cli) idle: Option<f64>,
    #[command(flatten)]
    pub(in crate::cli) warm: WarmArgs,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
    /// One JSON object on standard output
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PolicyOptions {
    /// Traces: JSON lines of larder run --trace, those of one model together, or requests with
    /// hash_ids as Mooncake publishes them; .gz too. Generated ones come behind them
    pub(in crate::cli) traces: Vec<PathBuf>,
    /// Size of the cache as shares of the blocks that a trace uses
    #[arg(
        long,
        value_name = "SHARES",
        default_value = "1/2,1/4,1/8",
        value_delimiter = ','
    )]
    pub(in crate::cli) share: Vec<String>,
    /// Replay the traces given, and no generated ones
    #[arg(long, requires = "traces")]
    pub(in crate::cli) no_generated: bool,
    /// Start of the random numbers of generated traces
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Draw the shares of misses into this file
    #[arg(long, value_name = "FILE.svg")]
    pub(in crate::cli) plot: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CompletionsOptions {
    /// The shell that is to complete
    pub(in crate::cli) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ManOptions {
    /// The command whose page is printed [default: larder's own page]
    pub(in crate::cli) command: Option<String>,
    /// Write the pages of all commands into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(in crate::cli) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct HeatOptions {
    #[command(subcommand)]
    pub(in crate::cli) command: Option<HeatCommand>,
    #[command(flatten)]
    pub(in crate::cli) show: HeatShow,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum HeatCommand {
    /// Load the probes and pin what they count into
    Start(HeatStart),
    /// Show what runs, what it cost and what it counted
    Status {
        #[command(flatten)]
        place: HeatPlace,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
    /// Remove the probes and, unless told otherwise, the heat
    Stop {
        #[command(flatten)]
        place: HeatPlace,
        /// Keep the maps, so that the next start finds the heat
        #[arg(long)]
        keep_heat: bool,
    },
    /// Find what other processes use of a file that they map, and keep that in the page cache
    Follow(HeatFollow),
}

#[derive(Debug, Args)]
#[group(id = "followed", args = ["file", "pid"], required = true, multiple = true)]
pub(in crate::cli) struct HeatFollow {
    /// A model or pool file that other processes map [default: the largest that --pid maps]
    pub(in crate::cli) file: Option<PathBuf>,
    /// Follow this process only, until it ends
    #[arg(long, value_name = "PID")]
    pub(in crate::cli) pid: Option<u32>,
    /// End after this many seconds [default: when stopped]
    #[arg(long = "for", value_name = "SECONDS")]
    pub(in crate::cli) seconds: Option<u64>,
    /// Bytes of the file to have in memory, at most: bytes, 512KiB, 8GiB, or 50% of what is free
    #[arg(long, value_name = "SIZE", default_value = "50%")]
    pub(in crate::cli) fast: String,
    /// Lock what is hot into memory, as far as ulimit -l allows
    #[arg(long)]
    pub(in crate::cli) keep: bool,
    #[command(flatten)]
    pub(in crate::cli) place: HeatPlace,
    /// One JSON object on standard output at the end
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Where heat is pinned.
#[derive(Debug, Args)]
pub(in crate::cli) struct HeatPlace {
    /// Folder of a bpf file system that holds the pins
    #[arg(long, value_name = "DIR", default_value = larder_ebpf::DEFAULT_ROOT)]
    pub(in crate::cli) pins: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HeatStart {
    #[command(flatten)]
    pub(in crate::cli) place: HeatPlace,
    /// Group whose members may claim arrays and read counters
    #[arg(long, value_name = "NAME", default_value = "larder")]
    pub(in crate::cli) group: String,
    /// Blocks per heat array; each takes 64 bytes [default: 16384]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) entries: Option<u32>,
    /// Count this process only
    #[arg(long, value_name = "PID")]
    pub(in crate::cli) pid: Option<u32>,
    /// Count tasks below this folder of the cgroup (version 2) tree only
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) cgroup: Option<PathBuf>,
}

/// Which heat is drawn, and where to.
#[derive(Debug, Args)]
pub(in crate::cli) struct HeatShow {
    #[command(flatten)]
    pub(in crate::cli) place: HeatPlace,
    /// What is drawn
    #[arg(long, value_name = "COUNT", default_value = "all")]
    pub(in crate::cli) count: HeatCount,
    /// Draw into this file, .svg or .png, instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Counters of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum HeatCount {
    /// Touches, marks, faults, samples and accesses together
    All,
    Touches,
    Marks,
    Faults,
    Samples,
    Accesses,
}
