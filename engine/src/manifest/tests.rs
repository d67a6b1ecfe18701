//! Whole models: opened, refused, and compared with the golden folders where those are present.

mod endings;
mod golden;

use super::testing::{GgufFile, Llama, write};
use super::*;
use crate::config::RopeStyle;
use std::fs;
use tempfile::TempDir;

/// Checks that the blocks hold every row of every matrix of the step once, in step order.
/// Files that a model on a disk has.
fn file_count(manifest: &Manifest) -> usize {
    match &manifest.origin {
        Origin::Files(files) => files.len(),
        Origin::Objects(_) => 0,
    }
}

pub(super) fn check_blocks(manifest: &Manifest) {
    let target = cut::target_bytes(manifest.weight_bytes());
    let mut next = 0;
    let mut rows_done = vec![0; manifest.tensors.len()];
    let head = std::iter::once((BlockKind::Head, None, manifest.program.head.clone()));
    let layers = manifest
        .program
        .layers
        .iter()
        .enumerate()
        .flat_map(|(layer, blocks)| {
            let layer = Some(layer as u32);
            [
                (BlockKind::Attention, layer, blocks.attention.clone()),
                (BlockKind::GateUp, layer, blocks.gate_up.clone()),
                (BlockKind::Down, layer, blocks.down.clone()),
            ]
        });
    for (kind, layer, range) in layers.chain(head) {
        assert_eq!(range.start, next, "block ids follow each other");
        assert!(!range.is_empty(), "every section has a block");
        next = range.end;
        for id in range {
            let block = manifest.block(BlockId::new(id));
            assert_eq!((block.kind, block.layer), (kind, layer));
            assert_eq!(block.parts.len(), block.spec.parts.len());
            let mut row_bytes_max = 0;
            for (part, spec) in block.parts.iter().zip(&block.spec.parts) {
                let tensor = &manifest.tensors[part.tensor];
                assert_eq!(
                    part.row0, rows_done[part.tensor],
                    "rows of {} in order",
                    tensor.name
                );
                rows_done[part.tensor] += part.rows;
                row_bytes_max = row_bytes_max.max(tensor.row_bytes());
                let run = block.spec.runs[spec.run as usize];
                assert_eq!(run.file, tensor.file);
                let start = tensor.offset + part.row0 as u64 * tensor.row_bytes();
                assert_eq!(run.offset + spec.offset, start, "{}", tensor.name);
                assert_eq!(spec.len, part.rows as u64 * tensor.row_bytes());
                assert!(spec.offset + spec.len <= run.len);
            }
            let bytes = block.spec.data_bytes();
            assert!(
                bytes <= target + 2 * 2 * row_bytes_max,
                "{bytes} bytes, target {target}"
            );
        }
    }
    assert_eq!(next as usize, manifest.blocks.len());
    for (tensor, done) in manifest.tensors.iter().zip(rows_done) {
        let looked_up = tensor.role == Role::TokenEmbd && !manifest.config.tied;
        assert_eq!(
            done,
            if looked_up { 0 } else { tensor.rows },
            "{}",
            tensor.name
        );
    }
}

/// Opens what `make` puts into an empty folder and expects a refusal with `expected` in it.
fn refuse(expected: &str, make: impl FnOnce(&Path) -> PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = make(folder.path());
    let message = Manifest::open(&path).expect_err(expected).to_string();
    assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    assert!(message.contains('/'), "{message:?} names no path");
    assert!(!message.contains('\n'));
}

/// Bends a GGUF model and expects a refusal.
fn refuse_gguf(expected: &str, bend: impl FnOnce(&mut GgufFile)) {
    refuse(expected, |folder| {
        let mut file = Llama::SMALL.gguf();
        bend(&mut file);
        let path = folder.join("model.gguf");
        file.write(&path);
        path
    });
}

/// Adds or replaces keys of `config.json` and expects a refusal.
fn refuse_config(expected: &str, key: &str, value: &str) {
    let mut config: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&Llama::SMALL.config_json("")).expect("the test writes JSON");
    config.insert(
        key.to_owned(),
        serde_json::from_str(value).expect("the test gives JSON"),
    );
    refuse(expected, |folder| {
        Llama::SMALL.write_folder(folder, "");
        write(
            folder,
            "config.json",
            serde_json::Value::Object(config).to_string().as_bytes(),
        );
        folder.to_path_buf()
    });
}

#[test]
fn both_forms_of_a_model_open_alike() {
    for (tied, biases) in [(false, false), (true, false), (false, true)] {
        let llama = Llama {
            tied,
            biases,
            ..Llama::SMALL
        };
        let folder = TempDir::new().expect("a temporary folder");
        llama.write_folder(folder.path(), "");
        let file = folder.path().join("model.gguf");
        llama.gguf().write(&file);
        let file = Manifest::open(&file).expect("opens");
        let folder = Manifest::open(folder.path()).expect("opens");
        for manifest in [&file, &folder] {
            check_blocks(manifest);
            assert_eq!(manifest.embedding().rows, 10);
            assert_eq!(manifest.find(Role::Output, None).is_some(), !tied);
            assert_eq!(manifest.find(Role::QBias, Some(1)).is_some(), biases);
            let looked_up = if tied { 0 } else { manifest.embedding().len };
            assert_eq!(manifest.step_bytes(), manifest.weight_bytes() - looked_up);
            assert_eq!(manifest.types().len(), 1);
            assert_eq!(
                manifest.special,
                SpecialTokens {
                    bos: Some(1),
                    eos: vec![2]
                }
            );
        }
        assert_eq!(file.config.rope.style, RopeStyle::Adjacent);
        assert_eq!(folder.config.rope.style, RopeStyle::Halves);
        let mut other = folder.config.clone();
        other.rope.style = RopeStyle::Adjacent;
        assert_eq!(file.config, other);
        assert_eq!(file.tensors.len(), folder.tensors.len());
    }
}

#[test]
fn a_tied_folder_may_carry_a_head() {
    let folder = TempDir::new().expect("a temporary folder");
    Llama::SMALL.write_folder(folder.path(), "");
    let tied = Llama {
        tied: true,
        ..Llama::SMALL
    }
    .config_json("");
    write(folder.path(), "config.json", tied.as_bytes());
    let manifest = Manifest::open(folder.path()).expect("opens");
    check_blocks(&manifest);
    assert_eq!(manifest.find(Role::Output, None), None);
}

#[test]
fn sharded_models_open_as_one() {
    let folder = TempDir::new().expect("a temporary folder");
    let whole = Llama::SMALL;
    let in_first = |name: &str| name.contains("layers.0");
    write(
        folder.path(),
        "config.json",
        whole.config_json("").as_bytes(),
    );
    write(folder.path(), "a.safetensors", &whole.safetensors(in_first));
    write(
        folder.path(),
        "b.safetensors",
        &whole.safetensors(|name| !in_first(name)),
    );
    let plain = Manifest::open(folder.path()).expect("opens without an index");
    check_blocks(&plain);
    let map: serde_json::Map<_, _> = whole
        .tensors()
        .into_iter()
        .map(|(_, name, _)| {
            let file = if in_first(&name) {
                "a.safetensors"
            } else {
                "b.safetensors"
            };
            (name, file.into())
        })
        .collect();
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    write(
        folder.path(),
        "model.safetensors.index.json",
        index.to_string().as_bytes(),
    );
    let indexed = Manifest::open(folder.path()).expect("opens with an index");
    assert_eq!(indexed.tensors, plain.tensors);
    assert_eq!(file_count(&indexed), 2);
    let swapped = index
        .to_string()
        .replace("a.safetensors", "../a.safetensors");
    write(
        folder.path(),
        "model.safetensors.index.json",
        swapped.as_bytes(),
    );
    let message = Manifest::open(folder.path())
        .expect_err("leaves the folder")
        .to_string();
    assert!(message.contains("a file in its folder"), "{message}");
    let swapped = index.to_string().replace("a.safetensors", "b.safetensors");
    write(
        folder.path(),
        "model.safetensors.index.json",
        swapped.as_bytes(),
    );
    let message = Manifest::open(folder.path())
        .expect_err("the index lies")
        .to_string();
    assert!(message.contains("which it does not"), "{message}");
}

/// Writes a model as three shards; `bend` may change the second.
fn write_shards(folder: &Path, bend: impl FnOnce(&mut GgufFile)) -> [PathBuf; 3] {
    let whole = Llama::SMALL.gguf();
    let mut shards = [whole.clone(), GgufFile::new(), GgufFile::new()];
    shards[0].tensors.clear();
    for (i, tensor) in whole.tensors.iter().enumerate() {
        shards[i % 3].tensor(&tensor.name, &tensor.dims, 0, tensor.data.clone());
    }
    for (i, shard) in shards.iter_mut().enumerate() {
        shard
            .key_u32("split.no", i as u32)
            .key_u32("split.count", 3);
        shard.key_u32("split.tensors.count", whole.tensors.len() as u32);
    }
    bend(&mut shards[1]);
    let paths = [1, 2, 3].map(|i| folder.join(format!("m-0000{i}-of-00003.gguf")));
    shards
        .iter()
        .zip(&paths)
        .for_each(|(shard, path)| shard.write(path));
    paths
}

#[test]
fn split_gguf_files_open_as_one() {
    let folder = TempDir::new().expect("a temporary folder");
    let [first, second, _] = write_shards(folder.path(), |_| ());
    let manifest = Manifest::open(&first).expect("opens");
    check_blocks(&manifest);
    assert_eq!(file_count(&manifest), 3);
    let message = Manifest::open(&second)
        .expect_err("is not the first")
        .to_string();
    assert!(message.contains("open m-00001-of-00003.gguf"), "{message}");
    fs::remove_file(&second).expect("the shard is there");
    let message = Manifest::open(&first)
        .expect_err("lacks a shard")
        .to_string();
    assert!(
        message.contains("open ") && message.contains("m-00002-of-00003.gguf"),
        "{message}"
    );
    let whole = folder.path().join("renamed.gguf");
    fs::rename(&first, &whole).expect("the shard is there");
    let message = Manifest::open(&whole)
        .expect_err("has another name")
        .to_string();
    assert!(
        message.contains("must end in -00001-of-00003.gguf"),
        "{message}"
    );
}

#[test]
fn shards_of_other_models_are_refused() {
    refuse("split.no is not 1", |folder| {
        write_shards(folder, |shard| _ = shard.key_u32("split.no", 2))[0].clone()
    });
    refuse("is in another file of the model too", |folder| {
        let bend = |shard: &mut GgufFile| shard.tensors[0].name = "token_embd.weight".to_owned();
        write_shards(folder, bend)[0].clone()
    });
    refuse("tensors, expected", |folder| {
        write_shards(folder, |shard| _ = shard.tensors.pop())[0].clone()
    });
}

#[test]
fn what_is_no_model_is_refused() {
    refuse("open ", |folder| folder.join("absent.gguf"));
    refuse("a folder without config.json", Path::to_path_buf);
    refuse("not a GGUF file and not a model folder", |folder| {
        write(folder, "notes.txt", b"hello");
        folder.join("notes.txt")
    });
    refuse("an empty file", |folder| {
        write(folder, "model.gguf", b"");
        folder.join("model.gguf")
    });
    refuse("one file of a model folder", |folder| {
        Llama::SMALL.write_folder(folder, "");
        folder.join("model.safetensors")
    });
    refuse("neither a file nor a folder", |_| {
        PathBuf::from("/dev/null")
    });
    refuse("has no tensors", |folder| {
        write(
            folder,
            "config.json",
            Llama::SMALL.config_json("").as_bytes(),
        );
        folder.to_path_buf()
    });
    refuse("config.json: ", |folder| {
        write(folder, "config.json", b"{\"hidden_size\": \"wide\"}");
        folder.to_path_buf()
    });
}

#[test]
fn models_that_we_cannot_compute_are_refused() {
    refuse_gguf(
        "architecture \"mamba\" is not supported; supported: llama",
        |file| {
            file.key_str("general.architecture", "mamba");
        },
    );
    refuse_gguf("llama.block_count is missing", |file| {
        file.keys.retain(|(key, _)| key != "llama.block_count");
    });
    refuse_gguf(
        "llama.attention.head_count is an array of 2 numbers",
        |file| {
            file.key(
                "llama.attention.head_count",
                9,
                &testing::array(4, 2, &[1, 0, 0, 0, 2, 0, 0, 0]),
            );
        },
    );
    refuse_gguf("llama.embedding_length is 0", |file| {
        file.key_u32("llama.embedding_length", 0);
    });
    refuse_gguf("tensor blk.2.attn_norm.weight is missing", |file| {
        file.key_u32("llama.block_count", 1 << 24);
    });
    refuse_gguf("a divisor of the 2 heads", |file| {
        file.key_u32("llama.attention.head_count_kv", 3);
    });
    refuse_gguf("rope.scaling.type is \"yarn\"", |file| {
        file.key_str("llama.rope.scaling.type", "yarn");
    });
    refuse_gguf("llama.expert_count is 8", |file| {
        _ = file.key_u32("llama.expert_count", 8);
    });
    refuse_gguf("norm_rms_epsilon is NaN", |file| {
        file.key_f32("llama.attention.layer_norm_rms_epsilon", f32::NAN);
    });
    refuse_gguf("an even number up to", |file| {
        _ = file.key_u32("llama.rope.dimension_count", 6);
    });
    refuse_gguf("an even number up to", |file| {
        _ = file.key_u32("llama.rope.dimension_count", 3);
    });
    refuse_gguf("has shape [12, 8], expected [8, 12]", |file| {
        file.named("blk.1.ffn_down.weight").dims = vec![8, 12];
    });
    refuse_gguf(
        "has type \"I32\", which no kernel reads; supported: F32, ",
        |file| {
            file.named("blk.1.ffn_down.weight").ty = 26;
        },
    );
    refuse_gguf(
        "tensor \"blk.0.attn_sinks\" is no part of a llama model",
        |file| {
            file.tensor("blk.0.attn_sinks", &[2], 0, vec![0; 8]);
        },
    );
    refuse_gguf("F32 [2]", |file| {
        _ = file.tensor("rope_freqs.weight", &[3], 0, vec![0; 12]);
    });
    refuse_gguf("holds 0, expected numbers above", |file| {
        file.tensor("rope_freqs.weight", &[2], 0, vec![0; 8]);
    });
}

#[test]
fn folders_that_we_cannot_compute_are_refused() {
    refuse_config("architectures is missing", "architectures", "null");
    refuse_config(
        "\"BertModel\" is not supported",
        "architectures",
        r#"["BertModel"]"#,
    );
    refuse_config("hidden_size is missing", "hidden_size", "null");
    refuse_config("has shape [10, 8], expected [11, 8]", "vocab_size", "11");
    refuse_config(
        "layers.2.input_layernorm.weight is missing",
        "num_hidden_layers",
        "3",
    );
    refuse_config("is no part of a llama model", "num_hidden_layers", "1");
    refuse_config(
        "rope_type is \"yarn\"",
        "rope_scaling",
        r#"{"type": "yarn", "factor": 2}"#,
    );
    refuse_config(
        "low_freq_factor is missing",
        "rope_scaling",
        r#"{"type": "llama3", "factor": 2}"#,
    );
    refuse_config("hidden_act is \"gelu\"", "hidden_act", r#""gelu""#);
    refuse_config("sliding_window is 8", "sliding_window", "8");
    refuse_config(
        "quant_method is \"awq\"",
        "quantization_config",
        r#"{"quant_method": "awq"}"#,
    );
    refuse_config("config.json: ", "num_hidden_layers", "-1");
    refuse_config("rope_theta is 0", "rope_theta", "0");
}

#[test]
fn rope_scaling_gives_the_same_factors_in_both_forms() {
    let folder = TempDir::new().expect("a temporary folder");
    let rope = |extra: &str| {
        Llama::SMALL.write_folder(folder.path(), extra);
        Manifest::open(folder.path()).expect("opens").config.rope
    };
    let linear = rope(r#""rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}"#);
    assert_eq!((linear.theta, linear.factors), (5e5, vec![4.0, 4.0]));
    let plain = rope(r#""rope_parameters": {"rope_type": "default", "rope_theta": 300.0}"#);
    assert_eq!((plain.theta, plain.factors), (300.0, vec![]));
    let llama3 = rope(
        r#""rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8,
        "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}"#,
    );
    // 64 tokens are 10.2 turns of the first pair and a tenth of one of the second.
    assert_eq!(llama3.factors, vec![1.0, 8.0]);
    let file = folder.path().join("model.gguf");
    let mut gguf = Llama::SMALL.gguf();
    gguf.key_str("llama.rope.scaling.type", "linear")
        .key_f32("llama.rope.scaling.factor", 4.0);
    gguf.write(&file);
    assert_eq!(
        Manifest::open(&file).expect("opens").config.rope.factors,
        vec![4.0, 4.0]
    );
    gguf.key_str("llama.rope.scaling.type", "none");
    gguf.tensor(
        "rope_freqs.weight",
        &[2],
        0,
        [1.0_f32, 8.0].map(f32::to_le_bytes).concat(),
    );
    gguf.write(&file);
    assert_eq!(
        Manifest::open(&file).expect("opens").config.rope.factors,
        vec![1.0, 8.0]
    );
}
