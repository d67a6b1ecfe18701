//! `larder node`: lends memory, and disk, until it is told to stop.

use super::error::CliError;
use super::options::NodeArgs;
use super::size::{memory, parse_size};
use super::tier::{TierSpec, parse_address, parse_tier};
use crate::session::LowerTier;
use larder_pool::node::{Exposure, Node, NodeOptions};
use larder_pool::sys::limits::available_bytes;
use larder_pool::sys::net::Transport;
use larder_pool::sys::signals::StopSignals;
use std::io::Write;
use std::net::ToSocketAddrs;
use std::path::PathBuf;

pub(super) fn node(options: &NodeArgs) -> Result<(), CliError> {
    let resolved = resolve(options)?;
    let signals = StopSignals::block().map_err(|source| CliError::Signals { source })?;
    let mut node = Node::start(resolved)?;
    let mut out = std::io::stderr().lock();
    let stat = node.stat();
    let _ = writeln!(
        out,
        "lending {} of memory and {} of disk at tcp://{}",
        memory(stat.mem_bytes),
        memory(stat.disk_bytes),
        node.address()
    );
    for note in node.notes() {
        let _ = writeln!(out, "note: {note}");
    }
    drop(out);
    signals.wait();
    node.stop();
    Ok(())
}

pub(super) fn resolve(options: &NodeArgs) -> Result<NodeOptions, CliError> {
    let usage = CliError::Usage;
    let address = parse_address(&options.listen).map_err(|e| usage(format!("--listen: {e}")))?;
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| usage(format!("--listen tcp://{address}: {error}; give HOST:PORT")))?;
    let listen = found
        .next()
        .ok_or_else(|| usage(format!("--listen tcp://{address}: no such host")))?;
    let mem =
        parse_size(&options.mem, available_bytes).map_err(|e| usage(format!("--mem: {e}")))?;
    let token = match &options.token_file {
        None => None,
        Some(path) => {
            let read = std::fs::read_to_string(path);
            let text = read.map_err(|source| CliError::File {
                path: path.clone(),
                source,
            })?;
            Some(text.trim().to_owned())
        }
    };
    if token.as_deref() == Some("") {
        return Err(usage(
            "--token-file: the file is empty; write a token into it".to_owned(),
        ));
    }
    let mut node = NodeOptions::new(listen, mem);
    node.disk = disk(&options.tier)?;
    node.token = token;
    if options.insecure {
        node.exposure = Exposure::Anybody;
    }
    if options.tcp_only {
        node.transport = Transport::Tcp;
    }
    Ok(node)
}

fn disk(tiers: &[String]) -> Result<Option<(PathBuf, u64)>, CliError> {
    let mut disk = None;
    for text in tiers {
        let spec = parse_tier(text, || 0).map_err(CliError::Usage)?;
        let TierSpec::Lower(LowerTier::Nvme { folder, bytes, .. }) = spec else {
            let what = format!("--tier {text}: a node has a disk tier only, nvme=DIR,SIZE");
            return Err(CliError::Usage(what));
        };
        if disk.replace((folder, bytes)).is_some() {
            return Err(CliError::Usage(
                "--tier nvme: given twice; give one".to_owned(),
            ));
        }
    }
    Ok(disk)
}
