//! `larder pack`: a model into a packed folder.

use super::error::CliError;
use super::options::PackOptions;
use super::progress::Progress;
use super::size::memory;
use super::table::print;
use crate::manifest::{Container, Manifest};
use serde::Serialize;

/// What `pack --json` prints.
#[derive(Debug, Serialize)]
struct PackReport {
    folder: String,
    objects: usize,
    bytes: u64,
}

pub(super) fn pack(options: &PackOptions) -> Result<(), CliError> {
    let container = Container::open(&options.model)?;
    let blocks = Manifest::from_container(&container)?.blocks.len();
    let mut progress = Progress::new(("pack", "blocks"), blocks as u64, false);
    let made = crate::pack::pack(&container, &options.into, |_| progress.step())?;
    drop(progress);
    let report = PackReport {
        folder: options.into.display().to_string(),
        objects: made.objects,
        bytes: made.bytes,
    };
    print(options.json, &report, || {
        let (folder, bytes) = (&report.folder, memory(report.bytes));
        format!("{folder}: {bytes} in {} objects", report.objects)
    })
}
