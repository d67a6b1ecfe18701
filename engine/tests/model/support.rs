//! Models and golden outputs that the repository carries.

use larder::manifest::Manifest;
use larder::sample::argmax;
use larder::session::{GenerateOptions, Session, SessionOptions};
use larder_cpu::Isa;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the assets.
pub(crate) fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets")
}

/// Name and path of every model with golden outputs.
pub(crate) fn models() -> Vec<(&'static str, PathBuf)> {
    let tiny = |name: &str| assets().join("tiny").join(name);
    vec![
        ("tiny-f32", tiny("tiny-f32.gguf")),
        ("tiny-f16", tiny("tiny-f16.gguf")),
        ("tiny-q8_0", tiny("tiny-q8_0.gguf")),
        ("tiny-folder", tiny("tiny-folder")),
        ("larder-story-moe", assets().join("larder-story-moe.gguf")),
        ("larder-story", assets().join("larder-story.gguf")),
    ]
}

/// Golden outputs of a model.
pub(crate) struct Golden {
    pub(crate) prompt: Vec<u32>,
    pub(crate) greedy: Vec<u32>,
    pub(crate) margins: Vec<f64>,
    pub(crate) tolerance: f64,
    /// Largest and root mean square difference allowed to kernels that round activations.
    pub(crate) tolerance_fast: (f64, f64),
    /// (tokens, vocabulary)
    pub(crate) logits: Vec<f32>,
}

fn numbers(value: &Value) -> Vec<u32> {
    let items = value.as_array().expect("an array of ids");
    items
        .iter()
        .map(|item| item.as_u64().expect("an id") as u32)
        .collect()
}

impl Golden {
    pub(crate) fn read(name: &str) -> Self {
        let folder = assets().join("golden").join(name);
        let text = std::fs::read_to_string(folder.join("expected.json")).expect("golden file");
        let json: Value = serde_json::from_str(&text).expect("golden JSON");
        let tolerance = json["tolerance"].as_f64().expect("tolerance");
        let fast = |key: &str| json[key].as_f64().unwrap_or(tolerance);
        let npy = std::fs::read(folder.join("logits.npy")).expect("golden logits");
        let header = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
        let (values, _) = npy[header..].as_chunks::<4>();
        Self {
            prompt: numbers(&json["prompt_ids"]),
            greedy: numbers(&json["greedy"]),
            margins: json["margins"]
                .as_array()
                .expect("margins")
                .iter()
                .filter_map(Value::as_f64)
                .collect(),
            tolerance,
            tolerance_fast: (fast("tolerance_fast"), fast("tolerance_fast_rms")),
            logits: values
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
        }
    }

    /// Greedy ids that the reference decides by a margin above `slack`.
    pub(crate) fn decided(&self, slack: f64) -> &[u32] {
        let count = self.margins.iter().position(|&margin| margin <= slack);
        &self.greedy[..count.unwrap_or(self.greedy.len())]
    }
}

/// Options with the fastest kernels and two threads.
pub(crate) fn options() -> SessionOptions {
    SessionOptions {
        context: Some(256),
        ..SessionOptions::plain(Isa::detect(), 2)
    }
}

pub(crate) fn open(path: &Path, options: &SessionOptions) -> Session {
    let manifest = Arc::new(Manifest::open(path).expect("the model opens"));
    Session::open(manifest, options).expect("the session opens")
}

/// Bits of the logits of every position.
pub(crate) fn score_bits(session: &mut Session, tokens: &[u32]) -> Vec<u32> {
    let mut bits = Vec::new();
    session
        .score(tokens, |_, row| {
            bits.extend(row.iter().map(|value| value.to_bits()));
            Ok(())
        })
        .expect("scores");
    bits
}

/// Greedy ids after a prompt, and the bits of the logits of each step.
pub(crate) fn generate(
    session: &mut Session,
    prompt: &[u32],
    count: usize,
) -> (Vec<u32>, Vec<u32>) {
    let mut bits = Vec::new();
    let made = session
        .generate(
            &GenerateOptions {
                prompt,
                count,
                stop: &[],
            },
            |row| {
                bits.extend(row.iter().map(|value| value.to_bits()));
                Ok(argmax(row))
            },
            |_| true,
        )
        .expect("generates");
    (made.tokens, bits)
}
