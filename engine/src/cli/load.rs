//! `larder load`: a model onto memory nodes.

use super::error::CliError;
use super::names::connect_tier;
use super::options::LoadOptions;
use super::progress::Progress;
use super::size::memory;
use super::table::print;
use crate::manifest::Manifest;
use crate::publish::{publish, publish_packed};
use serde::Serialize;
use std::path::Path;

/// What `load --json` prints, for each node.
#[derive(Debug, Serialize)]
struct LoadReport {
    name: String,
    hash: String,
    nodes: Vec<NodeReport>,
}

#[derive(Debug, Serialize)]
struct NodeReport {
    address: String,
    objects: usize,
    bytes: u64,
    sent_bytes: u64,
}

pub(super) fn load(options: &LoadOptions) -> Result<(), CliError> {
    let (container, manifest) = Manifest::open_with_container(&options.model)?;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => default_name(&options.model).ok_or_else(|| {
            let path = options.model.display();
            CliError::Usage(format!("{path} gives no name; give one with --name"))
        })?,
    };
    // Every node is reached before anything is sent to one.
    let clients = options.into.iter().map(|tier| connect_tier("--into", tier));
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let mut report = LoadReport {
        name,
        hash: String::new(),
        nodes: Vec::new(),
    };
    for client in clients {
        let objects = manifest.blocks.len() as u64;
        let mut progress = Progress::new(("load", "blocks"), objects, false);
        let step = |_| progress.step();
        let made = if manifest.is_packed {
            publish_packed(&options.model, &client, &report.name, step)?
        } else {
            publish(&container, &client, &report.name, step)?
        };
        report.hash = made.hash.to_string();
        report.nodes.push(NodeReport {
            address: client.address().to_owned(),
            objects: made.objects,
            bytes: made.bytes,
            sent_bytes: made.sent_bytes,
        });
    }
    print(options.json, &report, || {
        let nodes = report.nodes.iter().map(|node| {
            format!(
                "{} {} at tcp://{}: {} in {} objects, {} of it sent",
                report.name,
                report.hash,
                node.address,
                memory(node.bytes),
                node.objects,
                memory(node.sent_bytes)
            )
        });
        nodes.collect::<Vec<_>>().join("\n")
    })
}

/// The file's name without `.gguf` and `-00001-of-00003`.
fn default_name(model: &Path) -> Option<String> {
    let name = model.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let is_count = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let shard = stem.rsplit_once("-of-").and_then(|(front, count)| {
        let (name, number) = front.rsplit_once('-')?;
        (is_count(count) && is_count(number)).then_some(name)
    });
    Some(shard.unwrap_or(stem).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        let name = |path: &str| default_name(Path::new(path)).expect("has a name");
        assert_eq!(name("/a/b.gguf"), "b");
        assert_eq!(name("b-00001-of-00003.gguf"), "b");
        assert_eq!(name("b-1-of-3.gguf"), "b-1-of-3");
        assert_eq!(name("/models/folder"), "folder");
    }
}
