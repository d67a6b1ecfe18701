//! Memory nodes of their own processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// A memory node of its own process, ended when dropped.
pub(crate) struct Node {
    child: Child,
    /// Such as `tcp://127.0.0.1:40000`.
    pub(crate) address: String,
}

impl Node {
    /// A node that lends so much, with these options more, and has taken the model `model`.
    pub(crate) fn with_model(larder: &Path, lends: (&str, &[&str]), model: &str) -> Result<Self> {
        let node = Self::start(larder, lends)?;
        let status = Command::new(larder)
            .args(["load", model, "--into", &node.tier()])
            .stdin(Stdio::null())
            .status()
            .context("start larder load")?;
        ensure!(status.success(), "larder load: {status}");
        Ok(node)
    }

    pub(crate) fn tier(&self) -> String {
        format!("remote={}", self.address)
    }

    /// An empty node.
    pub(crate) fn start(larder: &Path, (mem, more): (&str, &[&str])) -> Result<Self> {
        let child = Command::new(larder)
            .args(["node", "--listen", "tcp://127.0.0.1:0", "--mem", mem])
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", larder.display()))?;
        let mut node = Self {
            child,
            address: String::new(),
        };
        let said = node
            .child
            .stderr
            .take()
            .context("the node has standard error")?;
        let mut lines = BufReader::new(said).lines();
        let line = lines.next().context("the node says where it is")??;
        let Some((_, address)) = line.rsplit_once(" at ") else {
            bail!("larder node: {line}");
        };
        address.clone_into(&mut node.address);
        // Whatever else it says goes on to our own standard error.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
