//! The head of a GGUF file, version 3, and where its tensors lie.
//!
//! ```text
//! "GGUF" | version u32 | tensors u64 | keys u64
//! each key:    length u64, name | type u32 | value
//! each tensor: length u64, name | dims u32 | dim u64 ... | type u32 | offset u64
//! zeros up to a multiple of the alignment; tensor data, each at its offset from here
//! ```
//!
//! Source: ggml, `docs/gguf.md`. All numbers are little-endian.

use super::random::{Stream, normal_table};
use super::router;
use super::shape::{Role, Shape};
use super::values::{ValueType, Values};

/// Alignment of every tensor, and the value of `general.alignment`.
const ALIGNMENT: u64 = 32;

/// A whole file: its head in bytes, its tensors by recipe.
#[derive(Debug)]
pub(crate) struct File {
    /// Everything before the tensor data, padded.
    pub(crate) head: Vec<u8>,
    pub(crate) tensors: Vec<Placed>,
    pub(crate) bytes: u64,
}

/// A tensor at its place.
#[derive(Debug)]
pub(crate) struct Placed {
    /// From the start of the file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) values: Values,
}

/// Lays out the file of `shape`.
pub(crate) fn layout(shape: &Shape, value_type: ValueType, seed: u64) -> File {
    let (count, keys) = keys(shape, value_type);
    let list = shape.tensors();
    let mut head = Vec::new();
    head.extend(b"GGUF");
    head.extend(3u32.to_le_bytes());
    head.extend((list.len() as u64).to_le_bytes());
    head.extend(count.to_le_bytes());
    head.extend(keys);

    let normal = normal_table();
    let mut tensors = Vec::new();
    let mut offset = 0;
    for tensor in list {
        let own_type = if tensor.role.is_matrix() {
            value_type
        } else {
            ValueType::F32
        };
        push_string(&mut head, &tensor.name);
        head.extend((tensor.dims.len() as u32).to_le_bytes());
        head.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
        head.extend(own_type.gguf_type().to_le_bytes());
        head.extend(u64::to_le_bytes(offset));

        let stream = Stream::new(seed, &tensor.name);
        let random = |mean, deviation| Values::Random {
            value_type: own_type,
            stream,
            mean,
            deviation,
        };
        let values = match tensor.role {
            Role::Matrix => random(0.0, 1.0 / (tensor.dims[0] as f32).sqrt()),
            Role::Embedding => random(0.0, shape.embedding_deviation()),
            Role::Residual => random(
                0.0,
                shape.residual_factor() / (tensor.dims[0] as f32).sqrt(),
            ),
            Role::Router => Values::Given(router::rows(&normal, stream, &tensor.dims)),
            Role::Norm => random(1.0, 0.1),
            Role::RopeFactors => Values::Given(shape.rope_factors()),
        };
        let bytes = own_type.bytes(tensor.dims.iter().product());
        tensors.push(Placed {
            offset,
            bytes,
            values,
        });
        offset = (offset + bytes).next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
    let data = head.len() as u64;
    for tensor in &mut tensors {
        tensor.offset += data;
    }
    File {
        head,
        tensors,
        bytes: data + offset,
    }
}

/// Number of keys, and their bytes.
fn keys(shape: &Shape, value_type: ValueType) -> (u64, Vec<u8>) {
    let mut keys = Keys {
        count: 0,
        bytes: Vec::new(),
    };
    let arch = shape.arch;
    keys.string("general.architecture", arch);
    keys.string("general.name", &format!("synth {}", shape.name));
    keys.u32("general.alignment", ALIGNMENT as u32);
    keys.u32("general.file_type", value_type.gguf_file_type());
    keys.u32("general.quantization_version", 2);
    for (key, value) in [
        ("block_count", shape.layers),
        ("context_length", shape.context),
        ("embedding_length", shape.dim),
        ("feed_forward_length", shape.ffn),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("attention.key_length", shape.head_dim),
        ("attention.value_length", shape.head_dim),
        ("rope.dimension_count", shape.head_dim),
        ("vocab_size", shape.vocab),
    ] {
        keys.u32(&format!("{arch}.{key}"), value);
    }
    if let Some(experts) = shape.experts {
        keys.u32(&format!("{arch}.expert_count"), experts.count);
        keys.u32(&format!("{arch}.expert_used_count"), experts.used);
        keys.u32(&format!("{arch}.expert_feed_forward_length"), experts.width);
    }
    keys.f32(
        &format!("{arch}.attention.layer_norm_rms_epsilon"),
        shape.norm_eps,
    );
    keys.f32(&format!("{arch}.rope.freq_base"), shape.rope_theta);
    // Other engines open a file without a vocabulary only if it says that it has none.
    keys.string("tokenizer.ggml.model", "none");
    (keys.count, keys.bytes)
}

struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    fn begin(&mut self, key: &str, value_type: u32) {
        self.count += 1;
        push_string(&mut self.bytes, key);
        self.bytes.extend(value_type.to_le_bytes());
    }

    fn u32(&mut self, key: &str, value: u32) {
        self.begin(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.begin(key, 6);
        self.bytes.extend(value.to_le_bytes());
    }

    fn string(&mut self, key: &str, value: &str) {
        self.begin(key, 8);
        push_string(&mut self.bytes, value);
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_lie_aligned_and_apart() {
        let shape = Shape::named("tiny-moe").expect("a name of the table");
        for value_type in [
            ValueType::F32,
            ValueType::F16,
            ValueType::Bf16,
            ValueType::Q8_0,
            ValueType::Q4K,
        ] {
            let file = layout(&shape, value_type, 1);
            assert_eq!(file.head[..8], *b"GGUF\x03\0\0\0");
            let mut end = file.head.len() as u64;
            for tensor in &file.tensors {
                assert_eq!(tensor.offset % ALIGNMENT, 0);
                assert!(tensor.offset >= end && tensor.offset < end + ALIGNMENT);
                end = tensor.offset + tensor.bytes;
            }
            assert_eq!(file.bytes, end.next_multiple_of(ALIGNMENT));
        }
    }

    #[test]
    fn keys_are_counted() {
        let shape = Shape::named("tiny").expect("a name of the table");
        let (count, bytes) = keys(&shape, ValueType::F16);
        let named = bytes
            .windows(6)
            .filter(|window| window == b"llama.")
            .count();
        assert_eq!((count, named), (18, 12));
        let shape = Shape::named("tiny-moe").expect("a name of the table");
        assert_eq!(keys(&shape, ValueType::Q4K).0, 21);
    }
}
