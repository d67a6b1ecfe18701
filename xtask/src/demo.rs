//! `cargo xtask demo`: the main job on a model of our own, on any machine.
//!
//! A memory node starts on loopback and takes a model with experts. An engine that has no file of
//! it tells a story: a third of the weights' bytes in its fast tier, the rest of the weights and
//! the KV in a spill folder and at the node, over links of 20 MB/s. Then the same story is told
//! from the file without a budget, and both must be equal. With `--kill` a second node has the
//! model too, and the first one is killed in the middle of the story. With `--big` the model has
//! random weights and some gigabytes, and no link is slowed down.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::node::Node;
use crate::synth::{self, ValueType};
use crate::{checkout, release};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A second node has the model too; the first one is killed in the middle of the story.
    #[arg(long)]
    kill: bool,

    /// A model of random weights, 3.4 GB, in half of its size of memory, over unlimited links.
    #[arg(long)]
    big: bool,

    /// Draws what each tier held and each path carried over the run into this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

const MODEL: &str = "engine/assets/larder-story-moe.gguf";
const PROMPT: &str = "Once there was a cook named Mira who kept a larder under the stairs.";
/// Bytes of the story behind which a node is killed.
const MIDDLE: usize = 120;

/// What the demo runs.
struct Scene {
    model: PathBuf,
    /// Bytes of the weights, and of the fast tier.
    weights: u64,
    fast: u64,
    /// Memory of a node, its other options, and size of the spill folder.
    node: &'static str,
    options: &'static [&'static str],
    spill: &'static str,
    /// Behind the specification of each lower tier.
    limit: &'static str,
    /// Arguments of every run.
    run: &'static [&'static str],
    kill: bool,
}

impl Scene {
    fn small(root: &Path, kill: bool) -> Result<Self> {
        let model = root.join(MODEL);
        let weights = std::fs::metadata(&model).context(MODEL)?.len();
        Ok(Self {
            model,
            weights,
            fast: weights / 3,
            node: "32MiB",
            options: &[],
            spill: "16MiB",
            limit: ",limit=20MB/s",
            run: &["-p", PROMPT, "-n", "200", "--context", "256"],
            kill,
        })
    }

    fn big(root: &Path, kill: bool) -> Result<Self> {
        let model = checkout::target(root).join("demo/llama-3b.gguf");
        if !model.exists() {
            let path = model.display();
            println!("Writing a model of 3.4 GB to {path}; it stays there for the next time.");
        }
        synth::ensure_model("llama-3b", ValueType::Q8_0, &model)?;
        let weights = std::fs::metadata(&model).context("the model")?.len();
        Ok(Self {
            model,
            weights,
            fast: weights / 2,
            node: "5GiB",
            // Memory of this host would be read in place: nothing would stream.
            options: &["--tcp-only"],
            spill: "5GiB",
            limit: "",
            run: &[
                "--prompt-tokens",
                "1,2,3,4,5,6,7,8",
                "-n",
                "48",
                "--context",
                "1024",
            ],
            kill,
        })
    }

    /// Arguments that say where the engine has its bytes.
    fn engine(&self, nodes: &[Node]) -> Vec<String> {
        let spill = format!("nvme=spill,{}", self.spill);
        let tiers = nodes.iter().map(Node::tier);
        let mut engine = vec!["--fast".to_owned(), self.fast.to_string()];
        for tier in [spill].into_iter().chain(tiers) {
            engine.extend(["--tier".to_owned(), tier + self.limit]);
        }
        engine
    }

    /// What will happen, in three lines.
    fn announce(&self) {
        let (weights, fast) = (self.weights, self.fast);
        let links = if self.limit.is_empty() {
            "as fast as it goes, as between hosts"
        } else {
            "each over a link of 20 MB/s"
        };
        let end = if self.kill {
            "A second node has the model too, and the first one is killed in the middle."
        } else {
            "Then the file is read without a budget, and both texts must be equal."
        };
        println!(
            "A memory node on loopback takes a model of {weights} bytes; an engine without the file"
        );
        println!(
            "runs it with {fast} bytes for weights, KV and work buffers together. What does not fit"
        );
        println!("streams from the node and a spill folder, {links}.\n{end}\n");
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = checkout::root()?;
    let plot = args.plot.as_deref().map(drawing).transpose()?;
    let larder = release::build(&root)?;
    let scene = if args.big {
        Scene::big(&root, args.kill)?
    } else {
        Scene::small(&root, args.kill)?
    };
    let model = scene
        .model
        .to_str()
        .context("the path of the checkout is text")?;
    let name = scene.model.file_stem().and_then(|stem| stem.to_str());
    let name = format!("remote://{}", name.context("the model has a name")?);
    scene.announce();
    let count = if scene.kill { 2 } else { 1 };
    let nodes = (0..count).map(|_| Node::with_model(&larder, (scene.node, scene.options), model));
    let mut nodes: Vec<Node> = nodes.collect::<Result<_>>()?;
    println!();
    // The engine works in a folder of its own, out of reach of the model.
    let view = tempfile::tempdir_in(checkout::target(&root)).context("a folder for the engine")?;
    let run = Run {
        larder: &larder,
        view: view.path(),
        scene: &scene,
    };
    let mut engine = scene.engine(&nodes);
    engine.extend(
        plot.iter()
            .flat_map(|path| ["--plot".to_owned(), path.clone()]),
    );
    let prompt = if args.big { "" } else { PROMPT };
    let mut shown = 0;
    let told = run.tell(&name, &engine, Stdio::inherit(), |piece| {
        let before = shown;
        shown += piece.len();
        let mut out = std::io::stdout();
        if before == 0 {
            out.write_all(prompt.as_bytes())?;
        }
        out.write_all(piece)?;
        out.flush()?;
        if scene.kill && before < MIDDLE && shown >= MIDDLE {
            // A node is killed when it is dropped.
            drop(nodes.remove(0));
        }
        Ok(())
    })?;
    ensure!(
        !scene.kill || nodes.len() == 1,
        "the text ended before a node was killed"
    );
    // The file itself may need the memory that they lend.
    drop(nodes);
    let free = run.tell(model, &[], Stdio::null(), |_| Ok(()))?;
    ensure!(
        told == free,
        "the budget changed the text; without it:\n{free}"
    );
    println!("The text from the file, without a budget, is the same, token for token.");
    if let Some(path) = plot {
        println!("What each tier held and each path carried is drawn in {path}.");
    }
    Ok(())
}

/// The path of a drawing from the root, because the engine has a folder of its own.
fn drawing(path: &Path) -> Result<String> {
    let path = std::path::absolute(path).context("--plot")?;
    let folder = path.parent().context("--plot names no file")?;
    ensure!(folder.is_dir(), "--plot: {} is no folder", folder.display());
    let path = path.into_os_string().into_string();
    path.map_err(|_| anyhow::anyhow!("--plot: the path is no text"))
}

/// A run of the engine.
struct Run<'a> {
    larder: &'a Path,
    view: &'a Path,
    scene: &'a Scene,
}

impl Run<'_> {
    /// The text of `model` under the options `engine`; `show` sees it as it comes.
    fn tell(
        &self,
        model: &str,
        engine: &[String],
        report: Stdio,
        mut show: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<String> {
        let mut child = Command::new(self.larder)
            .args(["run", model])
            .args(self.scene.run)
            .args(engine)
            .current_dir(self.view)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(report)
            .spawn()
            .with_context(|| format!("start {}", self.larder.display()))?;
        let mut output = child.stdout.take().context("larder has standard output")?;
        let (mut text, mut piece) = (Vec::new(), [0; 256]);
        loop {
            let len = output.read(&mut piece).context("read the text")?;
            if len == 0 {
                break;
            }
            text.extend_from_slice(&piece[..len]);
            show(&piece[..len]).context("show the text")?;
        }
        let status = child.wait().context("wait for larder")?;
        if !status.success() {
            bail!("larder run: {status}");
        }
        String::from_utf8(text).context("the text is UTF-8")
    }
}
