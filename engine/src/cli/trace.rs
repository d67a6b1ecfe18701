//! Traces of block use as JSON lines: what a run asked for, to be replayed by other policies.
//!
//! The first line says what follows; each other line is one step, or all of the prefill:
//!
//! ```text
//! {"larder_trace":1,"model":"m.gguf","blocks":1024,"block_bytes":4194304}
//! {"phase":"prefill","blocks":[17,3,40]}
//! {"phase":"decode","blocks":[17,8]}
//! ```

use super::error::CliError;
use crate::manifest::Manifest;
use crate::session::Session;
use larder_pool::units::BlockId;
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Version of the format.
pub(super) const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) larder_trace: u32,
    pub(super) model: String,
    /// Blocks that may be used, all of `block_bytes`.
    pub(super) blocks: u64,
    pub(super) block_bytes: u64,
}

/// When a line's blocks were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Prefill,
    Decode,
}

/// A line behind the first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) phase: Phase,
    /// In the order of their use.
    pub(super) blocks: Vec<u64>,
}

/// Refuses a model of which every step uses every block.
pub(super) fn check(manifest: &Manifest) -> Result<(), CliError> {
    if manifest.config.experts.is_some() {
        return Ok(());
    }
    let what = "--trace: this model has no experts: each step uses every block, in the same order";
    Err(CliError::Usage(what.to_owned()))
}

/// Writes the routing of the last text of `session`, which had `steps` decode steps.
pub(super) fn write(path: &Path, session: &Session, steps: usize) -> Result<(), CliError> {
    let manifest = session.manifest();
    let dense = manifest.program.dense_blocks();
    let Some((prefill, decode)) = session.stager().record() else {
        let what = std::io::Error::other("more than 4 million picks, give a smaller -n");
        return Err(CliError::File {
            path: path.to_path_buf(),
            source: what,
        });
    };
    let head = Head {
        larder_trace: VERSION,
        model: manifest.path.display().to_string(),
        blocks: (manifest.blocks.len() - dense) as u64,
        block_bytes: manifest.expert_bytes(),
    };
    let of_step = decode.len().div_ceil(steps.max(1)).max(1);
    let line = |phase, blocks: &[BlockId]| Step {
        phase,
        blocks: blocks.iter().map(|block| block.index() as u64).collect(),
    };
    let prefill = line(Phase::Prefill, prefill);
    let decode = decode.chunks(of_step);
    let decode = decode.map(|blocks| line(Phase::Decode, blocks));
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        writeln!(file, "{}", serde_json::to_string(&head)?)?;
        for step in std::iter::once(prefill).chain(decode) {
            writeln!(file, "{}", serde_json::to_string(&step)?)?;
        }
        file.flush()
    };
    write().map_err(|source| CliError::File {
        path: path.to_path_buf(),
        source,
    })
}
