//! `cargo xtask synth`: a model file of random weights, written at the speed of the disk.
//!
//! The same options give the same bytes on every machine, whatever the number of threads. Values
//! are scaled so that activations stay near one: each matrix has the standard deviation
//! 1/sqrt(columns), about 0.02 for the usual widths. Routers prefer some experts a little, as
//! trained ones do, and the tokens of a text go to different ones.

mod random;
mod halves;
mod q4_k;
mod values;
mod router;
mod shape;
mod gguf;
mod write;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use clap::ValueEnum;
use shape::Shape;
pub(crate) use values::ValueType;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Shape of the model.
    #[arg(long, value_parser = shape::names())]
    shape: String,

    /// Type of the matrices; norms are F32 as in every GGUF file.
    #[arg(long = "type", value_enum)]
    value_type: ValueType,

    /// Number of layers instead of the shape's own, to reach a size.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    layers: Option<u32>,

    /// Other weights for another number.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The file to write; an older one is replaced when the new one is complete.
    #[arg(long)]
    out: PathBuf,
}

impl Args {
    fn type_name(&self) -> String {
        let value = self.value_type.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Writes the model that other tasks run, unless an earlier run did.
pub(crate) fn ensure_model(shape: &str, value_type: ValueType, out: &Path) -> Result<()> {
    if out.exists() {
        return Ok(());
    }
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    run(&Args {
        shape: shape.to_owned(),
        value_type,
        layers: None,
        seed: 1,
        out: out.to_path_buf(),
    })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut shape = Shape::named(&args.shape).context("a shape that the table does not have")?;
    if let Some(layers) = args.layers {
        shape.layers = layers;
    }
    let (elements, _) = args.value_type.block();
    if let Some(tensor) = shape.first_uneven(elements) {
        bail!(
            "--type {} needs rows of a multiple of {elements}: {} of {} has rows of {}",
            args.type_name(),
            tensor.name,
            shape.name,
            tensor.dims[0]
        );
    }
    let file = gguf::layout(&shape, args.value_type, args.seed);
    let mut partial = args.out.clone().into_os_string();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    ensure!(
        args.out.file_name().is_some(),
        "--out {} names no file",
        args.out.display()
    );

    let start = Instant::now();
    let written = write::write(&file, &partial)
        .and_then(|()| std::fs::rename(&partial, &args.out).context("rename the finished file"));
    if written.is_err() {
        // The error at hand says more than a second one about the left-over would.
        let _ = std::fs::remove_file(&partial);
    }
    written.with_context(|| format!("write {}", args.out.display()))?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}: {} bytes, {} tensors, {seconds:.2} s, {:.2} GB/s with sync",
        args.out.display(),
        file.bytes,
        file.tensors.len(),
        file.bytes as f64 / seconds / 1e9
    );
    Ok(())
}
