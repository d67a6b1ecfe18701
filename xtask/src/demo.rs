//! `cargo xtask demo`: the main job on a model of our own, on any machine.
//!
//! A trained model tells a story while its weights stream over a slow link under a budget of a
//! third of their size; then the same story is told without a budget, and both must be equal.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::checkout;

const MODEL: &str = "engine/assets/larder-story.gguf";
const PROMPT: &str = "Once there was a cook named Mira who kept a larder under the stairs.";
/// Tokens of a whole story.
const COUNT: &str = "200";
const CONTEXT: &str = "256";
const LINK: &str = "origin,limit=20MB/s";

pub(crate) fn run() -> Result<()> {
    let root = checkout::root()?;
    build(&root)?;
    let larder = root.join("target/release/larder");
    let weights = std::fs::metadata(root.join(MODEL)).context(MODEL)?.len();
    let fast = (weights / 3).to_string();
    println!("A model of {weights} bytes tells a story under a budget of {fast} bytes for its");
    println!("weights, KV and work buffers together; whatever the budget does not hold streams");
    println!("over a link of 20 MB/s, every token. Then the same without a budget, to compare.\n");

    let limited = ["--fast", fast.as_str(), "--tier", LINK];
    print!("{PROMPT}");
    let told = tell(&root, &larder, &limited, Some(&mut std::io::stdout()))?;
    let free = tell(&root, &larder, &[], None)?;
    ensure!(
        told == free,
        "the budget changed the story; without it:\n{free}"
    );
    println!("The story without a budget is the same, bit for bit.");
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

/// The story, shown as it comes if `show` is given; then the report is shown too.
fn tell(
    root: &Path,
    larder: &Path,
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
            MODEL,
            "-p",
            PROMPT,
            "-n",
            COUNT,
            "--context",
            CONTEXT,
        ])
        .args(engine)
        .current_dir(root)
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
