//! `larder bench`: the speed of a model, and parts of larder by themselves.

mod policy;
mod speed;
mod turns;

use super::error::CliError;
use super::options::{BenchCommand, BenchOptions};
use crate::figures::FigureStore;

pub(super) fn bench(options: &BenchOptions, figures: &FigureStore) -> Result<(), CliError> {
    match (&options.command, &options.speed.model) {
        (Some(BenchCommand::Policy(options)), _) => policy::policy(options),
        (Some(BenchCommand::Turns(options)), _) => turns::turns(options),
        (None, Some(model)) => speed::speed(model, &options.speed, figures),
        (None, None) => unreachable!("a model or a command is required"),
    }
}
