//! `cargo xtask bench`: the speeds of docs/PERFORMANCE.md, each beside the limit of the same run.
//!
//! Each case is one `larder bench`, which repeats a run until three are valid, nine times at most.
//! A case that fails is a line of the table like any other.

mod case;
mod disk;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::node::Node;
use crate::{checkout, release, synth};
use case::{CASES, Case, From, Wants};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs only the cases whose name contains one of these words.
    names: Vec<String>,

    /// Folder of the models, which are written there once [default: bench in the target folder]
    #[arg(long)]
    models: Option<PathBuf>,
}

/// No case starts after this.
const LONG: Duration = Duration::from_mins(27);
/// Tokens that every run has room for.
const CONTEXT: &str = "1024";
/// Memory of the node, and size of the spill folder.
const LOWER: &str = "5GiB";
/// Memory of a node that has room for half of what streams.
const SOME: &str = "1GiB";
/// Name of a packed folder.
const PACKED: &str = "packed";

pub(crate) fn run(args: &Args) -> Result<()> {
    let has = |case: &Case, name: &String| case.name.contains(name.as_str());
    if let Some(name) = args
        .names
        .iter()
        .find(|name| !CASES.iter().any(|case| has(case, name)))
    {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        anyhow::bail!("no case is named {name:?}; there are: {}", names.join("; "));
    }
    let start = Instant::now();
    let root = checkout::root()?;
    let bench = Bench {
        larder: release::build(&root)?,
        models: match &args.models {
            Some(models) => root.join(models),
            None => checkout::target(&root).join("bench"),
        },
    };
    let is_wanted =
        |case: &&Case| args.names.is_empty() || args.names.iter().any(|name| has(case, name));
    println!(
        "| case | tok/s | of plan | bound tok/s | of bound | goal | link busy | link | valid, void |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---|---|");
    let mut machine = None;
    for case in CASES.iter().filter(is_wanted) {
        let outcome = if start.elapsed() < LONG {
            bench.report(case)
        } else {
            Err(anyhow::anyhow!("not begun: the time is up"))
        };
        let row = outcome.and_then(|(report, model)| {
            machine = report["backend"].as_str().map(|backend| {
                let flags = report["cpu"].as_str().unwrap_or_default();
                format!("{backend} ({flags})")
            });
            match case.wants {
                Wants::Bound => of_bound(&report),
                Wants::FirstToken => first_token(&report, &model),
            }
        });
        let columns = row.unwrap_or_else(|error| {
            let reason = format!("{error:#}").replace('|', "/");
            Columns::failed(&reason)
        });
        println!("{}", columns.line(case));
    }
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    println!("\n{}; {minutes:.1} minutes", machine.unwrap_or_default());
    Ok(())
}

struct Bench {
    larder: PathBuf,
    models: PathBuf,
}

/// What a row says, `-` where there is nothing to say.
struct Columns {
    tok_s: String,
    of_plan: String,
    bound: String,
    of_bound: String,
    busy: String,
    link: String,
    runs: String,
}

impl Columns {
    fn failed(reason: &str) -> Self {
        let none = || "-".to_owned();
        Self {
            tok_s: none(),
            of_plan: none(),
            bound: none(),
            of_bound: none(),
            busy: none(),
            link: format!("failed: {reason}"),
            runs: none(),
        }
    }

    fn line(&self, case: &Case) -> String {
        let Self {
            tok_s,
            of_plan,
            bound,
            of_bound,
            busy,
            link,
            runs,
        } = self;
        let (name, goal) = (case.name, case.goal);
        format!(
            "| {name} | {tok_s} | {of_plan} | {bound} | {of_bound} | {goal} | {busy} | {link} | \
             {runs} |"
        )
    }
}

impl Bench {
    /// The report of a case, and its model.
    fn report(&self, case: &Case) -> Result<(Value, PathBuf)> {
        let model = self.models.join(case.file());
        synth::ensure_model(case.shape, case.value_type, &model)?;
        let bytes = std::fs::metadata(&model).context("the model")?.len();
        let path = model.to_str().context("the path of the model is text")?;
        let stem = model.file_stem().and_then(|stem| stem.to_str());
        let stem = stem.context("the model has a name")?;
        let folder = tempfile::tempdir_in(&self.models).context("a folder for the engine")?;
        let node = |more: &[&str]| Node::with_model(&self.larder, (LOWER, more), path);
        let node = match case.from {
            From::File => None,
            From::Node => Some(node(&[])?),
            From::FolderAndNode => Some(Node::start(&self.larder, (SOME, &[]))?),
            From::Tcp(_) | From::TcpAndSpill(_) => Some(node(&["--tcp-only"])?),
        };
        let mut command = Command::new(&self.larder);
        command.arg("bench");
        match case.from {
            From::File => command.arg(path),
            From::FolderAndNode => {
                self.pack(path, &folder.path().join(PACKED))?;
                command.arg(PACKED)
            }
            From::Node | From::Tcp(_) | From::TcpAndSpill(_) => {
                command.arg(format!("remote://{stem}"))
            }
        };
        if let Some(node) = &node {
            command.args(["--tier", &(node.tier() + case.from.limit())]);
        }
        if matches!(case.from, From::TcpAndSpill(_)) {
            command.args(["--tier", &format!("nvme=spill,{LOWER}")]);
        }
        let fast = (bytes as f64 * case.fast) as u64;
        let (count, fast) = (case.count.to_string(), fast.to_string());
        let output = command
            .args(["-n", &count, "--context", CONTEXT])
            .args(["--fast", &fast, "--json"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .context("start larder")?;
        let said = String::from_utf8_lossy(&output.stderr);
        eprint!("{said}");
        let last = said.lines().last().unwrap_or_default();
        ensure!(
            output.status.success(),
            "larder bench: {}: {last}",
            output.status
        );
        let report = serde_json::from_slice(&output.stdout).context("the report")?;
        Ok((report, model))
    }

    fn pack(&self, model: &str, folder: &Path) -> Result<()> {
        let status = Command::new(&self.larder)
            .args(["pack", model, "--into"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("start larder pack")?;
        ensure!(status.success(), "larder pack: {status}");
        Ok(())
    }
}

/// The median of a figure.
fn median(report: &Value, figure: &str) -> Option<f64> {
    report[figure]["median"].as_f64()
}

fn shown(figure: Option<f64>) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"))
}

/// The lowest and the highest of a figure.
fn range(figure: &Value) -> String {
    match (figure["lowest"].as_f64(), figure["highest"].as_f64()) {
        (Some(lowest), Some(highest)) => format!(" ({lowest:.2} to {highest:.2})"),
        _ => String::new(),
    }
}

fn runs(report: &Value) -> String {
    format!("{}, {}", report["valid_runs"], report["void_runs"])
}

/// Decoding, against the bound.
fn of_bound(report: &Value) -> Result<Columns> {
    let rates = report["link_mb_s"].as_object().context("link_mb_s")?;
    let rates = rates.iter().filter_map(|(path, rate)| {
        let rate = rate["median"].as_f64().filter(|rate| *rate > 1.0)?;
        Some(format!("{path} {:.2} GB/s", rate / 1e3))
    });
    let in_place = report["in_place_bytes"].is_object();
    let in_place = in_place.then(|| "read in place".to_owned());
    Ok(Columns {
        tok_s: shown(median(report, "decode_tok_s")),
        of_plan: shown(median(report, "of_plan")) + &range(&report["of_plan"]),
        bound: shown(median(report, "bound_tok_s")),
        of_bound: shown(median(report, "of_bound")) + &range(&report["of_bound"]),
        busy: shown(median(report, "link_busy")),
        link: rates.chain(in_place).collect::<Vec<_>>().join(", "),
        runs: runs(report),
    })
}

/// The first token, against the time of reading the file once.
fn first_token(report: &Value, model: &Path) -> Result<Columns> {
    let bytes = std::fs::metadata(model).context("the model")?.len();
    let seconds = median(report, "ttft_ms").context("ttft_ms")? / 1e3;
    let rate = disk::read_rate(model)?;
    let least = bytes as f64 / rate;
    Ok(Columns {
        tok_s: shown(Some(1.0 / seconds)),
        of_plan: "-".to_owned(),
        bound: shown(Some(1.0 / least)),
        of_bound: shown(Some(least / seconds)),
        busy: "-".to_owned(),
        link: format!("disk {:.2} GB/s", rate / 1e9),
        runs: runs(report),
    })
}
