//! What can be typed. Nothing here opens or measures anything.

mod host;

pub(super) use host::{
    BenchCommand, BenchOptions, CompletionsOptions, ConfigCommand, ConfigOptions, DoctorOptions,
    HeatCommand, HeatCount, HeatFollow, HeatOptions, HeatPlace, HeatShow, HeatStart, ManOptions,
    PolicyOptions, TopoOptions, TurnsOptions,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs language models whose weights and KV cache are bigger than the memory beside the compute.
#[derive(Debug, Parser)]
#[command(name = "larder", version, about, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Generate text after a prompt
    Run(RunOptions),
    /// Compute the logits and the perplexity of a text
    Score(ScoreOptions),
    /// Say what will live where, and the speed it allows, without running
    Plan(PlanOptions),
    /// Show what is in a model: architecture, tensors, types, blocks
    Inspect(InspectOptions),
    /// Turn text into token ids
    Tokenize(TokenizeOptions),
    /// Turn token ids into text
    Detokenize(DetokenizeOptions),
    /// Lend memory, and disk, to engines on other hosts
    Node(NodeArgs),
    /// Write a model into a folder, its blocks back to back, so that copies of them may spill
    Pack(PackOptions),
    /// Store a model on memory nodes, so that hosts without its files can run it
    Load(LoadOptions),
    /// List the models of a memory node
    Ls(LsOptions),
    /// Remove a model from a memory node
    Rm(RmOptions),
    /// Check what this host has of all that tiers stand on
    Doctor(DoctorOptions),
    /// Show memory, disks, network and nodes with their measured speeds
    Topo(TopoOptions),
    /// Start, show and stop the probes that count which blocks are hot; alone, draw the heat
    Heat(HeatOptions),
    /// Measure the speed of a model, until three runs can be trusted; or a part of larder by itself
    Bench(BenchOptions),
    /// Check configuration files
    Config(ConfigOptions),
    /// Print a script that completes commands in a shell
    Completions(CompletionsOptions),
    /// Print the manual page
    Man(ManOptions),
}

/// Where a run's memory and kernels come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(super) struct EngineArgs {
    /// Fast tier for weights, KV and work buffers together: bytes, 512KiB, 8GiB, or 50% of what is
    /// free [default: 80%]
    #[arg(long, value_name = "SIZE")]
    pub(super) fast: Option<String>,
    /// A tier: dram=SIZE[,node=N] or hbm=sim,SIZE (the fast tier), nvme=DIR,SIZE,
    /// remote=tcp://HOST:PORT[,token-file=FILE][,join], or origin (the model files); any with
    /// ,limit=RATE to slow its links
    #[arg(long, value_name = "SPEC")]
    pub(super) tier: Vec<String>,
    /// Tokens of prompt and text together [default: the model's, at most 4096]
    #[arg(long, value_name = "N")]
    pub(super) context: Option<usize>,
    /// How K and V are stored; auto is f32 for F32 weights, else f16
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    pub(super) kv_type: KvTypeArg,
    /// Kernels; reference is naive float32
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(super) kernels: KernelsArg,
    /// Threads that compute [default: all cores]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// What sizes the reads that are in flight at a disk: its bandwidth, or its latency too
    #[arg(long, value_name = "RULE", default_value = "fixed")]
    pub(super) window: WindowArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum WindowArg {
    Fixed,
    Latency,
}

/// What the budget gives way to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(super) struct PressureArgs {
    /// Shrink the fast tier while memory of this host or our cgroup runs short, and grow it back
    /// after; or while stalls in FILE grow, which has the form of /proc/pressure/memory
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto"
    )]
    pub(super) pressure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KvTypeArg {
    Auto,
    F32,
    F16,
    Q8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KernelsArg {
    Auto,
    Reference,
    Portable,
    Avx2,
    Avx512,
}

/// One of three ways to say what the tokens are.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct PromptArgs {
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) prompt: Option<String>,
    /// A file that holds the prompt; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// The prompt as token ids, 1,2,3; nothing is added
    #[arg(long, value_name = "IDS")]
    pub(super) prompt_tokens: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunOptions {
    /// GGUF file (or its first shard), folder with config.json and safetensors, or remote://NAME
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) prompt: PromptArgs,
    /// Tokens to generate, at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 256)]
    pub(super) count: usize,
    /// Go on after the end token
    #[arg(long)]
    pub(super) ignore_eos: bool,
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    /// Write which experts each step asked for here, as JSON lines; larder bench policy reads them
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Draw what each tier holds and each path carries over the run into this file
    #[arg(long, value_name = "FILE.svg")]
    pub(super) plot: Option<PathBuf>,
    #[command(flatten)]
    pub(super) warm: WarmArgs,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
    #[command(flatten)]
    pub(super) pressure: PressureArgs,
    /// For tests: between two tokens, blocks drawn from this seed leave the fast tier. It costs
    /// time and changes no answer
    #[arg(long, value_name = "SEED", hide = true)]
    pub(super) shake: Option<u64>,
    /// File with a section [run] whose keys are the long options here; what is typed goes first
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// One JSON object on standard output instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// What is brought before the first prompt.
#[derive(Debug, Args)]
pub(super) struct WarmArgs {
    /// While the prompt is awaited (on standard input, -f -), bring the blocks that earlier runs
    /// used most, as their heat says: that of `larder heat start`, and where there is none that in
    /// FILE, which keeps the heat of this run
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "absent, alone, or with a file")]
    pub(super) warm: Option<Option<PathBuf>>,
}

/// How tokens are chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(super) struct SamplingArgs {
    /// Softmax temperature; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(super) temperature: f32,
    /// Keep the K likeliest tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(super) top_k: usize,
    /// Keep the likeliest tokens that make up this share
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(super) top_p: f32,
    /// Drop tokens below this share of the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub(super) min_p: f32,
    /// Make the last 64 tokens this much less likely; 1 does nothing
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub(super) repeat_penalty: f32,
    /// Start of the random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

#[derive(Debug, Args)]
pub(super) struct ScoreOptions {
    /// GGUF file (or its first shard), folder with config.json and safetensors, or remote://NAME
    pub(super) model: PathBuf,
    /// A file that holds the text; - is standard input
    #[arg(
        short,
        long,
        value_name = "FILE",
        required_unless_present = "prompt_tokens"
    )]
    pub(super) file: Option<PathBuf>,
    /// The text as token ids, 1,2,3; nothing is added
    #[arg(long, value_name = "IDS", conflicts_with = "file")]
    pub(super) prompt_tokens: Option<String>,
    /// Write the logits of every position here: float32, (tokens, vocabulary)
    #[arg(long, value_name = "FILE.npy")]
    pub(super) logits: Option<PathBuf>,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanOptions {
    /// GGUF file (or its first shard), folder with config.json and safetensors, or remote://NAME
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

/// What is decoded again and again.
#[derive(Debug, Args)]
pub(super) struct SpeedOptions {
    /// GGUF file (or its first shard), folder with config.json and safetensors, or remote://NAME.
    /// It is run until 3 runs are valid, 9 times at most; a run is void if a link carried a tenth
    /// more or less behind it than before. KV that a spill folder kept is dropped
    #[arg(required = true)]
    pub(super) model: Option<PathBuf>,
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) prompt: Option<String>,
    /// The prompt as token ids, 1,2,3; nothing is added [default: 1 to 16]
    #[arg(long, value_name = "IDS", conflicts_with = "prompt")]
    pub(super) prompt_tokens: Option<String>,
    /// Tokens to generate in each run; the end token ends none
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64)]
    pub(super) count: usize,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
    #[command(flatten)]
    pub(super) pressure: PressureArgs,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// Address to listen on; other than loopback wants --token-file or --insecure
    #[arg(
        long,
        value_name = "tcp://HOST:PORT",
        default_value = "tcp://127.0.0.1:7311"
    )]
    pub(super) listen: String,
    /// Memory to lend: bytes, 512MiB, 8GiB, or 50% of what is free
    #[arg(long, value_name = "SIZE", default_value = "50%")]
    pub(super) mem: String,
    /// A disk tier below the memory: nvme=DIR,SIZE
    #[arg(long, value_name = "SPEC")]
    pub(super) tier: Vec<String>,
    /// File with the token that clients must know
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Without a token, serve whoever reaches the address
    #[arg(long, conflicts_with = "token_file")]
    pub(super) insecure: bool,
    /// Clients of this host come over TCP too, not over a local socket that spares them copies
    #[arg(long)]
    pub(super) tcp_only: bool,
    /// File with a section [node] whose keys are the long options here; what is typed goes first
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct LoadOptions {
    /// GGUF file (or its first shard), folder with config.json and safetensors, or packed folder
    pub(super) model: PathBuf,
    /// Name of the model [default: the file's, without .gguf and number of the shard]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Where to: remote=tcp://HOST:PORT[,token-file=FILE]; may be given several times
    #[arg(long, value_name = "TIER", required = true)]
    pub(super) into: Vec<String>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PackOptions {
    /// GGUF file (or its first shard), or folder with config.json and safetensors
    pub(super) model: PathBuf,
    /// An empty or new folder
    #[arg(long, value_name = "DIR")]
    pub(super) into: PathBuf,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct LsOptions {
    /// The node: remote=tcp://HOST:PORT[,token-file=FILE]
    pub(super) tier: String,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RmOptions {
    /// The node: remote=tcp://HOST:PORT[,token-file=FILE]
    pub(super) tier: String,
    /// Name of the model
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct InspectOptions {
    /// GGUF file (or its first shard), or folder with config.json and safetensors
    pub(super) model: PathBuf,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TokenizeOptions {
    /// Model, or GGUF file without tensors
    pub(super) model: PathBuf,
    /// The text; - is standard input
    #[arg(allow_hyphen_values = true)]
    pub(super) text: String,
    /// Do not put the begin token in front
    #[arg(long)]
    pub(super) no_bos: bool,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DetokenizeOptions {
    /// Model, or GGUF file without tensors
    pub(super) model: PathBuf,
    /// Token ids, 1,2,3
    pub(super) ids: String,
    /// One JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_prompt_is_given_once() {
        let parse = |rest: &[&str]| {
            Cli::try_parse_from(["larder", "run", "m.gguf"].iter().chain(rest.iter()))
        };
        assert!(parse(&["-p", "-x"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["-p", "x", "--prompt-tokens", "1"]).is_err());
    }
}
