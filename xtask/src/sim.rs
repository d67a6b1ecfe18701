//! `cargo xtask sim`: the deterministic simulation, and the mutations that it must catch.

mod seeded;

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, checkout, mutate};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs the seeds from 0 to N; 1000 if nothing else is said.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,

    /// Runs this seed alone.
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    seed: Option<u64>,

    /// Goes on until so many faults were injected.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "seed"])]
    faults: Option<u64>,

    /// Runs every mutation of xtask/mutants.toml until it is caught.
    #[arg(long, conflicts_with_all = ["seeds", "seed", "faults"])]
    mutations: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = checkout::root()?;
    if args.mutations {
        return mutations(&root);
    }
    let options = match (args.seeds, args.seed, args.faults) {
        (_, Some(seed), _) => ["--seed".to_owned(), seed.to_string()],
        (_, _, Some(faults)) => ["--faults".to_owned(), faults.to_string()],
        (seeds, _, _) => ["--seeds".to_owned(), seeds.unwrap_or(1000).to_string()],
    };
    let binary = cargo::test_binary(&root, "simulation", None)?;
    let status = Command::new(binary).args(options).status();
    ensure!(
        status.context("start the simulation")?.success(),
        "the simulation failed"
    );
    Ok(())
}

/// What became of a mutation.
struct Caught {
    name: String,
    seeds: u64,
    /// Seed and broken invariant.
    by: Option<(u64, String)>,
}

/// Builds the mutated copy once and runs each mutation until it is caught.
pub(crate) fn mutations(root: &Path) -> Result<()> {
    let edits = mutate::list(root)?;
    let folder = checkout::target(root).join("mutants");
    let (tree, target) = (folder.join("tree"), folder.join("target"));
    let start = Instant::now();
    mutate::make(root, &tree, &edits)?;
    seeded::seed(&checkout::target(root), &target)?;
    let binary = cargo::test_binary(&tree, "simulation", Some(&target))?;
    let built = start.elapsed().as_secs_f64();
    let most = edits.iter().map(|edit| edit.seeds).max().unwrap_or(0);
    sound(&binary, most)?;
    let mut left: Vec<(String, u64)> = Vec::new();
    for edit in edits.iter().rev() {
        if !left.iter().any(|(name, _)| *name == edit.name) {
            left.push((edit.name.clone(), edit.seeds));
        }
    }
    let (left, all) = (Mutex::new(left), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let next = left.lock().map(|mut left| left.pop());
                let Ok(Some((name, seeds))) = next else {
                    return Ok(());
                };
                let by = hunt(&binary, &["--jobs", "1", "--mutant", &name], seeds)?;
                if let Ok(mut all) = all.lock() {
                    all.push(Caught { name, seeds, by });
                }
            }
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker panicked"))?
        })
    })?;
    let all = all
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a worker panicked"))?;
    let missed = table(&all);
    println!(
        "{} mutations, {missed} not caught; built in {built:.0} s, {:.0} s in all",
        all.len(),
        start.elapsed().as_secs_f64()
    );
    ensure!(missed == 0, "{missed} mutations were not caught");
    Ok(())
}

/// Without a mutation none of the seeds fails, and what must fail does.
fn sound(binary: &Path, seeds: u64) -> Result<()> {
    if let Some((seed, what)) = hunt(binary, &[], seeds)? {
        bail!("seed {seed} fails without a mutation: {what}");
    }
    let canary = hunt(binary, &["--jobs", "1", "--canary"], 5)?;
    let (_, what) = canary.context("the canary lives: wrong bytes were not noticed")?;
    println!("canary: {what}");
    Ok(())
}

/// Runs seeds until one fails; which, and why.
fn hunt(binary: &Path, options: &[&str], seeds: u64) -> Result<Option<(u64, String)>> {
    let output = Command::new(binary)
        .args(["--seeds", &seeds.to_string()])
        .args(options)
        .output()
        .context("start the simulation")?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("seed "));
    let parts = line.and_then(|line| line.split_once(" failed: "));
    let Some((seed, what)) = parts else {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!(
            "the simulation ended with {} and no seed: {error}",
            output.status
        );
    };
    Ok(Some((seed.parse().context("a seed")?, what.to_owned())))
}

/// Prints what caught each mutation; how many were not.
fn table(all: &[Caught]) -> usize {
    let mut rows: Vec<&Caught> = all.iter().collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    for row in &rows {
        let (name, most) = (&row.name, row.seeds);
        match &row.by {
            Some((seed, what)) => {
                let what: String = what.chars().take(90).collect();
                println!("{name:28} seed {seed:>4} of {most:>4}  {what}");
            }
            None => println!("{name:28} NOT CAUGHT in {most} seeds"),
        }
    }
    rows.iter().filter(|row| row.by.is_none()).count()
}
