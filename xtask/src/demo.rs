//! `cargo xtask demo`: the main job on a model of our own, on any machine.
//!
//! A memory node starts on loopback and takes a model with experts. An engine that has no file of
//! it tells a story: a third of the weights' bytes in its fast tier, the rest of the weights and
//! the KV in a spill folder and at the node, over links of 20 MB/s. Then the same story is told
//! from the file without a budget, and both must be equal.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::checkout;

const MODEL: &str = "engine/assets/larder-story-moe.gguf";
const NAME: &str = "remote://larder-story-moe";
const PROMPT: &str = "Once there was a cook named Mira who kept a larder under the stairs.";
/// Tokens of a whole story.
const COUNT: &str = "200";
const CONTEXT: &str = "256";
const LIMIT: &str = "limit=20MB/s";

pub(crate) fn run() -> Result<()> {
    let root = checkout::root()?;
    build(&root)?;
    let larder = root.join("target/release/larder");
    let model = root.join(MODEL);
    let model = model.to_str().context("the path of the checkout is text")?;
    let weights = std::fs::metadata(model).context(MODEL)?.len();
    let fast = (weights / 3).to_string();
    // The engine works in a folder of its own, out of reach of the model.
    let view = tempfile::tempdir().context("a folder for the engine")?;
    println!("A memory node on loopback takes a model of {weights} bytes. An engine without the");
    println!(
        "file tells a story with {fast} bytes for weights, KV and work buffers together; what"
    );
    println!(
        "does not fit streams from the node and a spill folder, each over a link of 20 MB/s.\n"
    );

    let node = Node::start(&larder)?;
    let remote = format!("remote={}", node.address);
    let status = Command::new(&larder)
        .args(["load", model, "--into", &remote])
        .stdin(Stdio::null())
        .status()
        .context("start larder load")?;
    ensure!(status.success(), "larder load: {status}");
    println!();
    let remote = format!("{remote},{LIMIT}");
    let spill = format!("nvme=spill,16MiB,{LIMIT}");
    let limited = ["--fast", &fast, "--tier", &spill, "--tier", &remote];
    print!("{PROMPT}");
    let out = &mut std::io::stdout();
    let told = tell(view.path(), &larder, NAME, &limited, Some(out))?;
    let free = tell(view.path(), &larder, model, &[], None)?;
    ensure!(
        told == free,
        "the budget changed the story; without it:\n{free}"
    );
    println!("The story from the file, without a budget, is the same, bit for bit.");
    Ok(())
}

fn build(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--locked", "--release", "--package", "larder"])
        .current_dir(root)
        .status()
        .context("start cargo")?;
    ensure!(
        status.success(),
        "cargo build: {status}; a C compiler is needed (apt install gcc)"
    );
    Ok(())
}

/// A memory node of its own process, ended when dropped.
struct Node {
    child: Child,
    /// Such as `tcp://127.0.0.1:40000`.
    address: String,
}

impl Node {
    fn start(larder: &Path) -> Result<Self> {
        let child = Command::new(larder)
            .args(["node", "--listen", "tcp://127.0.0.1:0", "--mem", "32MiB"])
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

/// The story, shown as it comes if `show` is given; then the report is shown too.
fn tell(
    view: &Path,
    larder: &Path,
    model: &str,
    engine: &[&str],
    mut show: Option<&mut dyn Write>,
) -> Result<String> {
    let report = if show.is_some() {
        Stdio::inherit()
    } else {
        Stdio::null()
    };
    let mut child = Command::new(larder)
        .args([
            "run",
            model,
            "-p",
            PROMPT,
            "-n",
            COUNT,
            "--context",
            CONTEXT,
        ])
        .args(engine)
        .current_dir(view)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(report)
        .spawn()
        .with_context(|| format!("start {}", larder.display()))?;
    let mut output = child.stdout.take().context("larder has standard output")?;
    let (mut story, mut piece) = (Vec::new(), [0; 256]);
    loop {
        let len = output.read(&mut piece).context("read the story")?;
        if len == 0 {
            break;
        }
        story.extend_from_slice(&piece[..len]);
        if let Some(show) = &mut show {
            show.write_all(&piece[..len])
                .and_then(|()| show.flush())
                .context("show the story")?;
        }
    }
    let status = child.wait().context("wait for larder")?;
    if !status.success() {
        bail!("larder run: {status}");
    }
    String::from_utf8(story).context("the story is text")
}
