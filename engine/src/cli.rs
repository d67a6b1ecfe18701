//! The command line: options, the commands, and what they print.
//!
//! Text goes to stdout, progress and report to stderr; with `--json` stdout carries one object.

mod error;
mod chart;
mod size;
mod table;
mod words;
mod tier;

mod options;

mod config;
mod npy;
mod progress;
mod prompt;
mod plot;
mod pressure;
mod warm;
mod report;
mod trace;

mod doctor;
mod heat;
mod inspect;
mod names;
mod load;
mod node;
mod pack;
mod plan;
mod bench;
mod run;
mod score;
mod manual;
mod tokenize;
mod topo;

mod settings;

use crate::figures::FigureStore;
use clap::Parser;
use error::{CliError, one_line};
use options::{Cli, Command};
use std::ffi::OsString;
use std::io::Write;

/// Runs a command line; the exit code: 0 ok, 1 failed, 2 bad use.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match settings::expand(arguments.into_iter().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error),
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    let figures = FigureStore::new(config::cache_folder().as_deref());
    let outcome = match cli.command {
        Command::Run(options) => run::run(&options, &figures),
        Command::Score(options) => score::score(&options),
        Command::Plan(options) => plan::plan(&options, &figures),
        Command::Inspect(options) => inspect::inspect(&options),
        Command::Tokenize(options) => tokenize::tokenize(&options),
        Command::Detokenize(options) => tokenize::detokenize(&options),
        Command::Node(options) => node::node(&options),
        Command::Pack(options) => pack::pack(&options),
        Command::Load(options) => load::load(&options),
        Command::Ls(options) => names::ls(&options),
        Command::Rm(options) => names::rm(&options),
        Command::Doctor(options) => doctor::doctor(&options),
        Command::Topo(options) => topo::topo(&options),
        Command::Heat(options) => heat::heat(&options),
        Command::Bench(options) => bench::bench(&options, &figures),
        Command::Config(options) => settings::config(&options.command),
        Command::Completions(options) => manual::completions(&options),
        Command::Man(options) => manual::man(&options),
    };
    match outcome {
        // With nobody to read on, there is nothing left to say, and no place to say it.
        Ok(()) | Err(CliError::Closed) => 0,
        Err(error) => fail(&error),
    }
}

/// Says why a command ended; its exit code.
fn fail(error: &CliError) -> u8 {
    let _ = writeln!(std::io::stderr(), "larder: {}", one_line(error));
    error.exit_code()
}
