//! `cargo xtask bench`: the speeds of docs/PERFORMANCE.md, each beside the limit of the same run.
//!
//! A run whose probes before and after it are more than a tenth apart is void and repeated: three
//! valid ones of at most nine, and the median counts. The table says how many were void.

mod case;
mod disk;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::node::Node;
use crate::{checkout, release, synth};
use case::{CASES, Case, From, Wants};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs only the cases whose name contains one of these words.
    names: Vec<String>,

    /// Folder of the models, which are written there once.
    #[arg(long, default_value = "target/bench")]
    models: PathBuf,
}

/// Valid runs that are wanted, and runs that are made for them at most.
const VALID: usize = 3;
const RUNS_MAX: usize = 9;
/// Bytes of the context of every run, in tokens.
const CONTEXT: &str = "1024";
const PROMPT: &str = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16";

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = checkout::root()?;
    let bench = Bench {
        larder: release::build(&root)?,
        models: root.join(&args.models),
    };
    let is_wanted = |case: &&Case| {
        args.names.is_empty()
            || args
                .names
                .iter()
                .any(|name| case.name.contains(name.as_str()))
    };
    println!("| case | tok/s | bound tok/s | share | goal | link busy | link | valid, void |");
    println!("|---|---:|---:|---:|---:|---:|---|---|");
    for case in CASES.iter().filter(is_wanted) {
        println!("{}", bench.case(case)?);
    }
    Ok(())
}

struct Bench {
    larder: PathBuf,
    models: PathBuf,
}

/// What one run came to.
struct Sample {
    tok_s: f64,
    bound: f64,
    share: f64,
    busy: Option<f64>,
    link: String,
}

impl Bench {
    /// The row of a case.
    fn case(&self, case: &Case) -> Result<String> {
        let model = self.models.join(case.file());
        synth::ensure_model(case.shape, case.value_type, &model)?;
        let bytes = std::fs::metadata(&model).context("the model")?.len();
        let path = model.to_str().context("the path of the model is text")?;
        let node = match case.from {
            From::File => None,
            From::Node | From::NodeAndSpill => Some(Node::with_model(&self.larder, "5GiB", path)?),
        };
        let mut samples = Vec::new();
        let mut void = 0;
        while samples.len() < VALID && samples.len() + void < RUNS_MAX {
            match self.sample(case, &model, bytes, node.as_ref())? {
                Some(sample) => samples.push(sample),
                None => void += 1,
            }
        }
        let Some(middle) = median(samples.iter().map(|sample| sample.share)) else {
            return Ok(format!(
                "| {} | | | void | {} | | | 0, {void} |",
                case.name, case.goal
            ));
        };
        let of = |value: fn(&Sample) -> f64| median(samples.iter().map(value)).unwrap_or(0.0);
        let busy = median(samples.iter().filter_map(|sample| sample.busy));
        Ok(format!(
            "| {} | {:.2} | {:.2} | {middle:.2} | {} | {} | {} | {}, {void} |",
            case.name,
            of(|sample| sample.tok_s),
            of(|sample| sample.bound),
            case.goal,
            busy.map_or("-".to_owned(), |busy| format!("{busy:.2}")),
            samples[samples.len() / 2].link,
            samples.len(),
        ))
    }

    /// One run; `None` if it is void.
    fn sample(
        &self,
        case: &Case,
        model: &Path,
        bytes: u64,
        node: Option<&Node>,
    ) -> Result<Option<Sample>> {
        let folder = tempfile::tempdir_in(&self.models).context("a folder for the engine")?;
        let count = case.count.to_string();
        let mut command = Command::new(&self.larder);
        match node {
            None => command.arg("run").arg(model),
            Some(node) => {
                let stem = model.file_stem().and_then(|stem| stem.to_str());
                let name = stem.context("the model has a name")?;
                let remote = ["--tier".to_owned(), node.tier()];
                command
                    .args(["run", &format!("remote://{name}")])
                    .args(remote)
            }
        };
        if case.from == From::NodeAndSpill {
            command.args(["--tier", "nvme=spill,5GiB"]);
        }
        let fast = (bytes as f64 * case.fast) as u64;
        let output = command
            .args(["--prompt-tokens", PROMPT, "--ignore-eos", "--json"])
            .args([
                "-n",
                &count,
                "--context",
                CONTEXT,
                "--fast",
                &fast.to_string(),
            ])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("start larder")?;
        ensure!(output.status.success(), "larder run: {}", output.status);
        let report: Value = serde_json::from_slice(&output.stdout).context("the report")?;
        match case.wants {
            Wants::Bound => Ok(of_bound(&report)),
            Wants::FirstToken => {
                let seconds = report["ttft_ms"].as_f64().context("ttft_ms")? / 1e3;
                let rate = disk::read_rate(model)?;
                let least = bytes as f64 / rate;
                Ok(Some(Sample {
                    tok_s: 1.0 / seconds,
                    bound: 1.0 / least,
                    share: least / seconds,
                    busy: None,
                    link: format!("disk {:.2} GB/s", rate / 1e9),
                }))
            }
        }
    }
}

/// The figures of a run whose bound is one.
fn of_bound(report: &Value) -> Option<Sample> {
    let rates = report["link_mb_s"].as_object();
    let moved = rates
        .into_iter()
        .flatten()
        .filter(|(_, rate)| rate.as_f64() > Some(1.0));
    let link: Vec<String> = moved
        .map(|(path, rate)| format!("{path} {:.2} GB/s", rate.as_f64().unwrap_or(0.0) / 1e3))
        .collect();
    Some(Sample {
        tok_s: report["decode_tok_s"].as_f64()?,
        bound: report["bound_tok_s"].as_f64()?,
        share: report["of_bound"].as_f64()?,
        busy: report["link_busy"].as_f64(),
        link: link.join(", "),
    })
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
