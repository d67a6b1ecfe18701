//! Network namespaces, one for the engines and one per node, with a link from the first to each of
//! the others. Nothing of them shows outside.

use std::path::Path;
use std::process::{Command, Stdio};

/// Names of namespaces begin so, followed by the process that made them.
const PREFIX: &str = "larder-joined";
/// A node's end of its link.
const FAR: &str = "larder";
const PORT: u16 = 7311;

pub(crate) struct Namespaces {
    engine: String,
    nodes: Vec<String>,
}

impl Namespaces {
    /// Makes them for `nodes` nodes; `unique` tells them from others of this process. Fails with
    /// the reason where that cannot be done.
    pub(crate) fn new(unique: &str, nodes: usize) -> Result<Self, String> {
        remove_leftovers();
        let name = |part: &str| format!("{PREFIX}-{}-{unique}-{part}", std::process::id());
        let made = Self {
            engine: name("engine"),
            nodes: (0..nodes).map(|node| name(&node.to_string())).collect(),
        };
        // What has been made so far goes if the rest fails.
        made.set_up()?;
        Ok(made)
    }

    fn set_up(&self) -> Result<(), String> {
        let engine = self.engine.as_str();
        ip(&["netns", "add", engine])?;
        ip(&["-n", engine, "link", "set", "dev", "lo", "up"])?;
        for (number, node) in self.nodes.iter().enumerate() {
            ip(&["netns", "add", node])?;
            let (link, up) = (link(number), "up");
            let peer = ["type", "veth", "peer", "name", FAR, "netns", node];
            ip(&[&["link", "add", &link, "netns", engine][..], &peer].concat())?;
            let (near, far) = (
                format!("10.89.{number}.1/30"),
                format!("10.89.{number}.2/30"),
            );
            ip(&["-n", engine, "addr", "add", &near, "dev", &link])?;
            ip(&["-n", engine, "link", "set", "dev", &link, up])?;
            ip(&["-n", node, "addr", "add", &far, "dev", FAR])?;
            ip(&["-n", node, "link", "set", "dev", "lo", up])?;
            ip(&["-n", node, "link", "set", "dev", FAR, up])?;
        }
        // Whether programs start there shows only when one does.
        run(&mut inside(engine, Path::new("true")))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let all = [&self.engine].into_iter().chain(&self.nodes);
        all.cloned().collect()
    }

    pub(crate) fn address(number: usize) -> String {
        format!("10.89.{number}.2:{PORT}")
    }

    /// A command where the engines are.
    pub(crate) fn at_engine(&self, program: &Path) -> Command {
        inside(&self.engine, program)
    }

    /// A command where node `number` is.
    pub(crate) fn at_node(&self, number: usize, program: &Path) -> Command {
        inside(&self.nodes[number], program)
    }

    /// Takes the link of a node away, or gives it back; connections stay as they are.
    pub(crate) fn set_link(&self, number: usize, state: &str) {
        ip(&["-n", &self.nodes[number], "link", "set", "dev", FAR, state]).expect("a link");
    }

    /// Bytes that have come from node `number` so far, seen by process `pid` among the engines;
    /// `None` if that is not there, or no longer.
    pub(crate) fn received(number: usize, pid: u32) -> Option<u64> {
        let devices = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
        let link = link(number);
        let mut lines = devices.lines().filter_map(|line| line.split_once(':'));
        let (_, counts) = lines.find(|(name, _)| name.trim() == link)?;
        counts.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.names() {
            // One that was never made is not there.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

/// The engines' end of the link to node `number`.
fn link(number: usize) -> String {
    format!("larder{number}")
}

fn inside(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}", said.trim()))
}

/// Names of the namespaces of this host.
pub(crate) fn names() -> Vec<String> {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// Removes what processes that were killed have left, with the nodes in it.
fn remove_leftovers() {
    for name in names() {
        let rest = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('-'));
        let maker = rest.and_then(|rest| rest.split('-').next());
        let Some(maker) = maker.filter(|pid| pid.parse::<u32>().is_ok()) else {
            continue;
        };
        if Path::new("/proc").join(maker).exists() {
            continue;
        }
        let pids = Command::new("ip").args(["netns", "pids", &name]).output();
        let pids = pids.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&pids).split_whitespace() {
            let _ = run(Command::new("kill").args(["-KILL", pid]));
        }
        let _ = ip(&["netns", "del", &name]);
    }
}
