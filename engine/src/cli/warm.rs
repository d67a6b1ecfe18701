//! `--warm`: the heat of earlier runs, and what it was good for.

use super::options::WarmArgs;
use super::size::memory;
use crate::heat::Heat;
use crate::manifest::Manifest;
use crate::session::Session;
use larder_ebpf::{DEFAULT_ROOT, Pins};
use serde::Serialize;

impl WarmArgs {
    /// Where the uses of blocks are counted.
    pub(super) fn heat(&self, manifest: &Manifest) -> Heat {
        let mut heat = Heat::claim(&Pins::new(DEFAULT_ROOT), manifest);
        if let Some(Some(file)) = &self.warm {
            heat.keep_in(file, manifest);
        }
        heat
    }
}

/// What a warm-up brought, and how much of it was used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct WarmReport {
    /// Blocks that were asked for.
    asked: usize,
    /// Of those, the ones that came before the first text.
    blocks: usize,
    bytes: u64,
    seconds: f64,
    /// Of those, the ones that the first text used before they left: each a read saved.
    hits: u64,
}

impl WarmReport {
    /// After the first text; `None` if nothing was warmed.
    pub(super) fn of(session: &Session) -> Option<Self> {
        let warmed = session.warmed()?;
        Some(Self {
            asked: warmed.asked,
            blocks: warmed.blocks,
            bytes: warmed.bytes,
            seconds: warmed.time.as_secs_f64(),
            hits: session.stager().counters().warm_hits,
        })
    }

    /// The same as a row of a table.
    pub(super) fn told(&self) -> String {
        format!(
            "{} of {} blocks, {} in {:.2} s; {} of them used",
            self.blocks,
            self.asked,
            memory(self.bytes),
            self.seconds,
            self.hits
        )
    }
}
