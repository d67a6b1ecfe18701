//! `larder ls` and `larder rm`: the models of a memory node.

use super::error::CliError;
use super::options::{LsOptions, RmOptions};
use super::size::memory;
use super::table::{Table, print, width};
use super::tier::{TierSpec, parse_tier};
use crate::session::{LowerTier, connect, no_model};
use larder_pool::remote::Client;
use serde::Serialize;
use std::sync::Arc;

#[derive(Debug, Serialize)]
struct NamedReport {
    name: String,
    hash: String,
    bytes: u64,
}

/// What `ls --json` prints.
#[derive(Debug, Serialize)]
struct LsReport {
    models: Vec<NamedReport>,
    mem_bytes: u64,
    disk_bytes: u64,
    free_bytes: u64,
}

/// Connects to the node of a tier specification that `flag` gave.
pub(super) fn connect_tier(flag: &str, text: &str) -> Result<Arc<Client>, CliError> {
    let spec = parse_tier(text, || 0)
        .map_err(|error| CliError::Usage(error.replacen("--tier", flag, 1)))?;
    let TierSpec::Lower(LowerTier::Remote {
        address,
        token_file,
        ..
    }) = spec
    else {
        let wanted = "a memory node, remote=tcp://HOST:PORT";
        return Err(CliError::Usage(format!("{flag} {text}: give {wanted}")));
    };
    Ok(connect(&address, token_file.as_deref())?)
}

pub(super) fn ls(options: &LsOptions) -> Result<(), CliError> {
    let client = connect_tier("ls", &options.tier)?;
    let models = client.names()?.into_iter().map(|model| NamedReport {
        name: model.name,
        hash: model.hash.to_string(),
        bytes: model.bytes,
    });
    let info = client.info()?;
    let report = LsReport {
        models: models.collect(),
        mem_bytes: info.mem_bytes,
        disk_bytes: info.disk_bytes,
        free_bytes: info.free_bytes,
    };
    print(options.json, &report, || {
        let mut table = Table::default();
        for model in &report.models {
            let hash = &model.hash[..12];
            table.row(&model.name, format!("{}  {hash}", memory(model.bytes)));
        }
        let all = memory(report.mem_bytes + report.disk_bytes);
        table.row("free", format!("{} of {all}", memory(report.free_bytes)));
        table.render(width())
    })
}

pub(super) fn rm(options: &RmOptions) -> Result<(), CliError> {
    let client = connect_tier("rm", &options.tier)?;
    if client.resolve(&options.name)?.is_none() {
        return Err(no_model(&options.name, &client.names()?).into());
    }
    Ok(client.remove(&options.name)?)
}
