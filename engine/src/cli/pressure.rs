//! `--pressure`: who watches memory during a run, and what it came to.

use super::error::CliError;
use super::options::PressureArgs;
use super::size::{memory, time};
use crate::host::HostTree;
use crate::pressure::{FileGauge, Gauge, HostGauge};
use crate::session::Session;
use larder_ebpf::{DEFAULT_ROOT, Pins};
use larder_pool::clock::RealClock;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// The value of `--pressure` that asks for the kernel's own counters.
const AUTO: &str = "auto";

impl PressureArgs {
    /// The budget may have to shrink.
    pub(super) const fn is_wanted(&self) -> bool {
        self.pressure.is_some()
    }

    /// Starts to watch, if that is wanted; what there is to say about it.
    pub(super) fn watch(&self, session: &mut Session) -> Result<Option<String>, CliError> {
        let Some(given) = &self.pressure else {
            return Ok(None);
        };
        let (gauge, note): (Box<dyn Gauge>, String) = if given == AUTO {
            let gauge = HostGauge::new(&HostTree::this(), &Pins::new(DEFAULT_ROOT));
            let note = gauge.note();
            (Box::new(gauge), note)
        } else {
            let gauge = FileGauge::open(Path::new(given));
            let gauge = gauge.map_err(|error| CliError::Usage(format!("--pressure: {error}")))?;
            (Box::new(gauge), format!("pressure by {given}"))
        };
        if !session.may_shrink() {
            return Ok(Some(
                "--pressure does nothing: the fast tier is a device's memory, not the host's"
                    .to_owned(),
            ));
        }
        session.watch_pressure(gauge, Arc::new(RealClock::new()));
        Ok(Some(note))
    }
}

/// What pressure on memory did to the budget.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PressureReport {
    /// Times that the budget became less.
    pub(super) shrunk: u64,
    /// Smallest budget that there was.
    lowest_bytes: u64,
    /// Time in which the budget was less than at the start.
    under_ms: f64,
}

impl PressureReport {
    /// `None` if nobody watched.
    pub(super) fn of(session: &Session) -> Option<Self> {
        let (story, lowest) = session.pressure()?;
        Some(Self {
            shrunk: story.shrunk,
            lowest_bytes: lowest,
            under_ms: story.under.as_secs_f64() * 1e3,
        })
    }

    /// For the table.
    pub(super) fn story(&self) -> String {
        match self.shrunk {
            0 => "none".to_owned(),
            count => format!(
                "shrunk {count} times, to {} at the lowest, for {}",
                memory(self.lowest_bytes),
                time(self.under_ms)
            ),
        }
    }
}
