//! Writes small models, right and wrong, for the tests of this module.

use super::gguf::MAGIC;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A GGUF file in pieces that a test may bend before it is written.
#[derive(Clone, Debug)]
pub(super) struct GgufFile {
    pub magic: [u8; 4],
    pub version: u32,
    /// Added to the true counts of tensors and keys.
    pub counts_off: [u64; 2],
    /// Key, then type code and value as they stand in the file.
    pub keys: Vec<(String, Vec<u8>)>,
    pub tensors: Vec<GgufTensor>,
    pub alignment: usize,
}

#[derive(Clone, Debug)]
pub(super) struct GgufTensor {
    pub name: String,
    /// Length of a row first.
    pub dims: Vec<u64>,
    pub ty: u32,
    /// From the start of the data.
    pub offset: u64,
    pub data: Vec<u8>,
}

impl GgufFile {
    pub(super) fn new() -> Self {
        let (keys, tensors) = (Vec::new(), Vec::new());
        Self {
            magic: MAGIC,
            version: 3,
            counts_off: [0; 2],
            keys,
            tensors,
            alignment: 32,
        }
    }

    /// Sets a key to a value of this type code.
    pub(super) fn key(&mut self, key: &str, code: u32, value: &[u8]) -> &mut Self {
        let bytes = [&code.to_le_bytes()[..], value].concat();
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.to_owned(), bytes));
        self
    }

    pub(super) fn key_u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.key(key, 4, &value.to_le_bytes())
    }

    pub(super) fn key_f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.key(key, 6, &value.to_le_bytes())
    }

    pub(super) fn key_str(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key, 8, &string(value))
    }

    pub(super) fn key_strings(&mut self, key: &str, values: &[&str]) -> &mut Self {
        let strings: Vec<u8> = values.iter().flat_map(|value| string(value)).collect();
        self.key(key, 9, &array(8, values.len() as u64, &strings))
    }

    /// Adds a tensor behind the last one.
    pub(super) fn tensor(&mut self, name: &str, dims: &[u64], ty: u32, data: Vec<u8>) -> &mut Self {
        let last = self.tensors.last();
        let end = last.map_or(0, |last| last.offset as usize + last.data.len());
        let offset = end.next_multiple_of(self.alignment) as u64;
        let (name, dims) = (name.to_owned(), dims.to_vec());
        self.tensors.push(GgufTensor {
            name,
            dims,
            ty,
            offset,
            data,
        });
        self
    }

    pub(super) fn named(&mut self, name: &str) -> &mut GgufTensor {
        let tensor = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        tensor.expect("the test names a tensor of the file")
    }

    /// Bytes up to the first tensor's data, and all of them.
    pub(super) fn bytes(&self) -> (usize, Vec<u8>) {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        let counts = [self.tensors.len(), self.keys.len()];
        for (count, off) in counts.into_iter().zip(self.counts_off) {
            out.extend((count as u64).wrapping_add(off).to_le_bytes());
        }
        for (key, value) in &self.keys {
            out.extend(string(key));
            out.extend(value);
        }
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor
                .dims
                .iter()
                .for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(tensor.ty.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        let header = out.len();
        for tensor in &self.tensors {
            // Offsets of hostile files stay claims.
            if tensor.offset < 1 << 24 {
                let end = header + tensor.offset as usize + tensor.data.len();
                out.resize(end.max(out.len()), 0);
                out[end - tensor.data.len()..end].copy_from_slice(&tensor.data);
            }
        }
        (header, out)
    }

    pub(super) fn write(&self, path: &Path) {
        fs::write(path, self.bytes().1).expect("write the test file");
    }
}

pub(super) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Value bytes of an array.
pub(super) fn array(code: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&code.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

/// A llama of small sizes in any form.
#[derive(Clone, Debug)]
pub(super) struct Llama {
    pub layers: usize,
    pub dim: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
    pub ffn: u64,
    pub vocab: u64,
    pub tied: bool,
    pub biases: bool,
    /// Type of the matrices in GGUF: 0 for F32, 8 for Q8_0.
    pub ty: u32,
}

impl Llama {
    pub(super) const SMALL: Self = Self {
        layers: 2,
        dim: 8,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        ffn: 12,
        vocab: 10,
        tied: false,
        biases: false,
        ty: 0,
    };

    /// Names in GGUF and in a folder, and shapes, outermost dimension first.
    pub(super) fn tensors(&self) -> Vec<(String, String, Vec<u64>)> {
        let Self {
            dim, ffn, vocab, ..
        } = *self;
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut all = vec![
            (
                "token_embd.weight".into(),
                "model.embed_tokens.weight".into(),
                vec![vocab, dim],
            ),
            (
                "output_norm.weight".into(),
                "model.norm.weight".into(),
                vec![dim],
            ),
        ];
        if !self.tied {
            all.push((
                "output.weight".into(),
                "lm_head.weight".into(),
                vec![vocab, dim],
            ));
        }
        for layer in 0..self.layers {
            let mut add = |gguf: &str, hf: &str, shape: Vec<u64>| {
                all.push((
                    format!("blk.{layer}.{gguf}"),
                    format!("model.layers.{layer}.{hf}"),
                    shape,
                ));
            };
            add("ffn_down.weight", "mlp.down_proj.weight", vec![dim, ffn]);
            add("ffn_gate.weight", "mlp.gate_proj.weight", vec![ffn, dim]);
            add("ffn_up.weight", "mlp.up_proj.weight", vec![ffn, dim]);
            add(
                "ffn_norm.weight",
                "post_attention_layernorm.weight",
                vec![dim],
            );
            add("attn_norm.weight", "input_layernorm.weight", vec![dim]);
            add("attn_q.weight", "self_attn.q_proj.weight", vec![q, dim]);
            add("attn_k.weight", "self_attn.k_proj.weight", vec![kv, dim]);
            add("attn_v.weight", "self_attn.v_proj.weight", vec![kv, dim]);
            add(
                "attn_output.weight",
                "self_attn.o_proj.weight",
                vec![dim, q],
            );
            if self.biases {
                add("attn_q.bias", "self_attn.q_proj.bias", vec![q]);
                add("attn_k.bias", "self_attn.k_proj.bias", vec![kv]);
                add("attn_v.bias", "self_attn.v_proj.bias", vec![kv]);
            }
        }
        all
    }

    pub(super) fn gguf(&self) -> GgufFile {
        let mut file = GgufFile::new();
        file.key_str("general.architecture", "llama")
            .key_u32("llama.block_count", self.layers as u32)
            .key_u32("llama.context_length", 64)
            .key_u32("llama.embedding_length", self.dim as u32)
            .key_u32("llama.feed_forward_length", self.ffn as u32)
            .key_u32("llama.attention.head_count", self.heads as u32)
            .key_u32("llama.attention.head_count_kv", self.kv_heads as u32)
            .key_u32("llama.attention.key_length", self.head_dim as u32)
            .key_f32("llama.attention.layer_norm_rms_epsilon", 1e-6)
            .key_u32("tokenizer.ggml.bos_token_id", 1)
            .key_u32("tokenizer.ggml.eos_token_id", 2)
            .key_strings("tokenizer.ggml.tokens", &["<unk>", "", "ü"]);
        for (name, _, shape) in self.tensors() {
            let dims: Vec<u64> = shape.iter().rev().copied().collect();
            let elements: u64 = dims.iter().product();
            let ty = if dims.len() == 2 { self.ty } else { 0 };
            let bytes = if ty == 8 {
                elements / 32 * 34
            } else {
                elements * 4
            };
            file.tensor(&name, &dims, ty, vec![0; bytes as usize]);
        }
        file
    }

    /// The bytes of `model.safetensors` with the tensors that `keep` lets through.
    pub(super) fn safetensors(&self, keep: impl Fn(&str) -> bool) -> Vec<u8> {
        let mut json = r#"{"__metadata__":{"format":"pt"}"#.to_owned();
        let mut end = 0;
        for (_, name, shape) in self.tensors().into_iter().filter(|(_, name, _)| keep(name)) {
            let start = end;
            end += shape.iter().product::<u64>() * 4;
            let entry = format!(
                r#","{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
            );
            json.push_str(&entry);
        }
        json.push('}');
        safetensors_file(&json, end as usize)
    }

    pub(super) fn config_json(&self, extra: &str) -> String {
        let mut json = format!(
            r#"{{"architectures": ["LlamaForCausalLM"], "hidden_size": {}, "head_dim": {},
            "num_hidden_layers": {}, "num_attention_heads": {}, "num_key_value_heads": {},
            "intermediate_size": {}, "vocab_size": {}, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6, "bos_token_id": 1, "tie_word_embeddings": {}"#,
            self.dim,
            self.head_dim,
            self.layers,
            self.heads,
            self.kv_heads,
            self.ffn,
            self.vocab,
            self.tied,
        );
        let eos = if extra.contains("eos_token_id") {
            ""
        } else {
            r#", "eos_token_id": 2"#
        };
        let comma = if extra.is_empty() { "" } else { ", " };
        write!(json, "{eos}{comma}{extra}}}").expect("strings take all");
        json
    }

    /// Writes a folder with one file of weights.
    pub(super) fn write_folder(&self, folder: &Path, extra: &str) {
        write(folder, "config.json", self.config_json(extra).as_bytes());
        write(folder, "model.safetensors", &self.safetensors(|_| true));
    }
}

/// A safetensors file with this header and zeros behind it.
pub(super) fn safetensors_file(json: &str, data_bytes: usize) -> Vec<u8> {
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json.as_bytes());
    out.resize(out.len() + data_bytes, 0);
    out
}

pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).expect("write the test file");
}
