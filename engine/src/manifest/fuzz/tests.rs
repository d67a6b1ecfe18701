//! A bounded fuzzing run with a fixed seed: the same bytes every time, seconds in all.

use super::super::packed::{PackLayout, PackedObject, PackedRoot, heads};
use super::super::testing::Llama;
use super::*;
use larder_pool::checksum::run_checks;
use larder_pool::wire::ObjectHash;
use std::sync::Arc;

const ROUNDS: usize = 20_000;

/// Xorshift64. Source: Marsaglia, Xorshift RNGs, 2003.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Values that break careless arithmetic.
const EDGES: [u64; 12] = [
    0,
    1,
    7,
    31,
    255,
    65_536,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 62,
    1 << 63,
    u64::MAX,
];

/// One to four changes within the first `header` bytes.
fn mutate(seed: &[u8], header: usize, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(header.min(bytes.len()));
        match chance.below(7) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at] = chance.next() as u8,
            2 | 3 => {
                let width = [4, 8][chance.below(2)].min(bytes.len() - at);
                let edge = EDGES[chance.below(EDGES.len())].to_le_bytes();
                bytes[at..at + width].copy_from_slice(&edge[..width]);
            }
            4 => bytes.truncate(at.max(1)),
            5 => {
                let end = (at + chance.below(64)).min(bytes.len());
                bytes.drain(at..end.min(bytes.len() - 1).max(at));
            }
            _ => {
                let end = (at + chance.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = chance.below(header.min(bytes.len()));
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

fn check(seed: &[u8], header: usize, door: fn(&[u8]) -> bool) {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let opened = (0..ROUNDS)
        .filter(|_| door(&mutate(seed, header, &mut chance)))
        .count();
    assert!(
        opened < ROUNDS / 2,
        "{opened} of {ROUNDS} mutants still open"
    );
}

#[test]
fn mutated_gguf_files() {
    let mut file = Llama {
        layers: 1,
        ..Llama::SMALL
    }
    .gguf();
    file.tensor(
        "rope_freqs.weight",
        &[2],
        0,
        [1.0_f32, 8.0].map(f32::to_le_bytes).concat(),
    );
    let (header, bytes) = file.bytes();
    assert!(gguf(&bytes), "the seed is a model");
    check(&bytes, header, gguf);
}

#[test]
fn mutated_safetensors_files() {
    let bytes = Llama {
        layers: 1,
        tied: true,
        ..Llama::SMALL
    }
    .safetensors(|_| true);
    let header = 8 + bytes[0] as usize + 256 * bytes[1] as usize;
    assert!(safetensors_header(&bytes), "the seed is a model");
    check(&bytes, header, safetensors_header);
}

#[test]
fn mutated_packed_roots() {
    let llama = Llama {
        layers: 1,
        ..Llama::SMALL
    };
    let folder = tempfile::tempdir().expect("temp folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, llama.gguf().bytes().1).expect("write");
    let container = Container::open(&path).expect("opens");
    let manifest = Manifest::from_container(&container).expect("a model");
    let layout = PackLayout::of(&manifest);
    let found = heads(&container).expect("has heads");
    let sums = layout.specs.iter().map(|spec| {
        let (_, count) = run_checks(spec);
        Arc::from(vec![7; count])
    });
    let sums = sums.chain(std::iter::repeat(Arc::default()));
    let objects = layout.lens().into_iter().zip(sums);
    let objects = objects.map(|(len, sums)| PackedObject {
        hash: ObjectHash::of(b"any"),
        len,
        sums,
    });
    let bytes = PackedRoot {
        entry: found.entry,
        heads: found.heads,
        objects: objects.collect(),
    }
    .encode();
    assert!(packed_root(&bytes), "the seed is a model");
    check(&bytes, bytes.len(), packed_root);
}

#[test]
fn mutated_configurations() {
    let scaling = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1,
        "high_freq_factor": 4, "original_max_position_embeddings": 64}"#;
    let json = Llama::SMALL.config_json(scaling);
    check(json.as_bytes(), json.len(), config_json);
}
