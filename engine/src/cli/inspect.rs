//! `larder inspect`: what is in a model.

use super::error::CliError;
use super::options::InspectOptions;
use super::size::memory;
use super::table::{Table, print, width};
use crate::manifest::{Manifest, Outline, open_container};
use serde::Serialize;
use std::collections::BTreeMap;

/// What `inspect --json` prints.
#[derive(Debug, Serialize)]
struct InspectReport {
    arch: String,
    layers: Option<u64>,
    experts: Option<u64>,
    context: Option<u64>,
    tensors: usize,
    weight_bytes: u64,
    /// Units of placement; none if this build cannot run the model.
    blocks: Option<usize>,
    types: BTreeMap<String, u64>,
    /// Why this build cannot run the model.
    not_runnable: Option<String>,
}

pub(super) fn inspect(options: &InspectOptions) -> Result<(), CliError> {
    let container = open_container(&options.model)?;
    let mut types = BTreeMap::new();
    for tensor in &container.tensors {
        *types.entry(tensor.type_name.to_string()).or_insert(0) += tensor.len;
    }
    let (blocks, not_runnable) = match Manifest::from_container(&container) {
        Ok(manifest) => (Some(manifest.blocks.len()), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let Outline {
        arch,
        layers,
        experts,
        context,
    } = container.outline();
    let report = InspectReport {
        arch,
        layers,
        experts,
        context,
        tensors: container.tensors.len(),
        weight_bytes: container.tensors.iter().map(|tensor| tensor.len).sum(),
        blocks,
        types,
        not_runnable,
    };
    print(options.json, &report, || table(&report).render(width()))
}

fn table(report: &InspectReport) -> Table {
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let mut table = Table::default();
    table.row("architecture", report.arch.clone());
    table.row("layers", number(report.layers));
    table.row("experts", number(report.experts));
    table.row("context", number(report.context));
    table.row("tensors", report.tensors.to_string());
    table.row("weights", memory(report.weight_bytes));
    table.row("blocks", number(report.blocks.map(|blocks| blocks as u64)));
    for (name, bytes) in &report.types {
        table.row(name, memory(*bytes));
    }
    if let Some(why) = &report.not_runnable {
        table.row("not runnable", why.clone());
    }
    table
}
