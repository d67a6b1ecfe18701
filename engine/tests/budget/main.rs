//! The budget is kept and used: runs inside memory cgroups that have the limit which they state.
//!
//! A run may take its budget and 200 MiB beside it, whatever the model. Each run here has just that
//! in a cgroup of its own, without swap, and must end with the ids of the run without a budget,
//! with nothing counted at the limit, and with the budget in use. The same run with half of what
//! it took must be stopped: the check can see. Without a cgroup, for whatever reason, the numbers
//! of the process itself are compared all the same.
//!
//! `cargo test` runs some of it with the models of the repository; `cargo xtask budget` all of it,
//! or models of any size.

mod args;

mod case;
mod group;

mod child;

mod trial;

mod table;

use args::Args;
use case::{BUDGETS, Budget, FEW_BUDGETS, FEW_SETTINGS, SETTINGS, Setting, Subject};
use group::Group;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;
use tempfile::TempDir;
use trial::{Ground, Trial, command, judge};

/// Models of the repository: a dense one, and one with experts.
const MODELS: [&str; 2] = ["larder-story.gguf", "larder-story-moe.gguf"];
/// The one test, in the words of the harness.
const NAME: &str = "budgets_are_kept_and_used";
/// A limit that every run fits in.
const AMPLE: u64 = 1 << 30;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == child::BETWEEN)
    {
        return child::between(&arguments[2..]);
    }
    let args = match Args::parse(arguments.into_iter()) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let count = usize::from(args.chooses(NAME));
    println!("running {count} tests");
    let failures = if count == 0 { Ok(0) } else { prove(&args) };
    match failures {
        Ok(0) => {
            println!("test result: ok. {count} passed; 0 failed; 0 ignored; 0 measured");
            ExitCode::SUCCESS
        }
        failures => {
            match failures {
                Ok(rows) => eprintln!("error: {rows} rows are broken"),
                Err(error) => eprintln!("error: {error}"),
            }
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for; how many rows are broken.
fn prove(args: &Args) -> Result<usize, String> {
    let folder = match &args.folder {
        Some(folder) => TempDir::new_in(folder),
        None => TempDir::new(),
    };
    let folder = folder.map_err(|error| format!("a folder to run in: {error}"))?;
    let lack = Group::new(0, AMPLE).err();
    let mut proof = Proof {
        args,
        ground: Ground {
            larder: &args.larder,
            folder: folder.path(),
            has_groups: lack.is_none(),
            groups: 0,
        },
        broken: 0,
        beside: None,
    };
    println!("{}", table::HEAD);
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let own = MODELS.map(|name| assets.join(name));
    let models = if args.models.is_empty() {
        &own[..]
    } else {
        &args.models
    };
    for model in models {
        let subject = Subject::open(model)?;
        proof.subject(&subject)?;
    }
    if let Some(reason) = lack {
        println!("---- {NAME} stdout ----");
        println!("skipped: no memory cgroup, so the process alone was asked ({reason})");
    }
    Ok(proof.broken)
}

/// The rows of all models.
struct Proof<'a> {
    args: &'a Args,
    ground: Ground<'a>,
    broken: usize,
    /// Least that a run of this model had beside its budget.
    beside: Option<u64>,
}

impl Proof<'_> {
    fn subject(&mut self, subject: &Subject) -> Result<(), String> {
        self.beside = None;
        let is_whole = self.args.is_table && self.args.models.is_empty();
        let settings = if is_whole {
            &SETTINGS[..]
        } else {
            &FEW_SETTINGS
        };
        let budgets = if self.args.is_table {
            &BUDGETS[..]
        } else {
            &FEW_BUDGETS
        };
        for &setting in settings {
            self.setting((subject, setting), budgets)?;
        }
        Ok(())
    }

    fn setting(&mut self, of: (&Subject, Setting), budgets: &[Budget]) -> Result<(), String> {
        let (subject, setting) = of;
        let mut plan = command("plan", subject);
        plan.extend(setting.engine(subject));
        let plan = self.ground.json(&plan)?;
        let free = self.ground.run(of, None, u64::MAX)?;
        let free = free.report.ok_or(free.said)?;
        let mut middle = None;
        for &budget in budgets {
            let Some(bytes) = budget.bytes(&plan) else {
                continue;
            };
            let mut trial = self.ground.try_out(of, (budget, bytes), &free)?;
            trial.judge_beside(subject, &mut self.beside);
            self.show(of, budget.name(), &trial);
            middle = Some(trial).filter(|_| budget != Budget::All).or(middle);
        }
        match middle {
            Some(trial) => self.control(of, &trial, &free),
            None => Err(format!("{}: no budget is below its weights", subject.name)),
        }
    }

    fn show(&mut self, of: (&Subject, Setting), share: &str, trial: &Trial) {
        println!("{}", table::row(of, share, trial));
        self.broken += usize::from(!trial.broken.is_empty());
    }

    /// The same run in half of what its group took must not look as if all was well.
    fn control(
        &mut self,
        of: (&Subject, Setting),
        good: &Trial,
        free: &Value,
    ) -> Result<(), String> {
        let peak = good.outcome.counted.and_then(|counted| counted.peak);
        let is_uncounted = good
            .outcome
            .report
            .as_ref()
            .is_some_and(trial::is_uncounted);
        let Some(peak) = peak.filter(|_| !is_uncounted) else {
            return Ok(());
        };
        let limit = peak / 2;
        let outcome = self.ground.run(of, Some(good.budget), limit)?;
        let seen = judge(&outcome, good.budget, limit, free);
        let counted = outcome
            .counted
            .is_some_and(|counted| counted.hits + counted.kills > 0);
        let broken = if counted && !seen.is_empty() {
            Vec::new()
        } else {
            vec!["half of what it takes was enough: the check is blind".to_owned()]
        };
        let trial = Trial {
            limit,
            outcome,
            broken,
            budget: good.budget,
        };
        self.show(of, "too little", &trial);
        Ok(())
    }
}
