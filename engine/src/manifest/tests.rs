//! Whole models: opened, refused, and compared with the golden folders where those are present.

use super::*;

/// The golden models beside the checkout, if this machine has them.
fn golden(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/models")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no {}", path.display());
    None
}

/// Checks that the blocks hold every row of every matrix of the step once, in step order.
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

#[test]
fn golden_llamas_open_alike_from_both_forms() {
    let pairs = [
        ("tiny-llama.gguf", "tiny-llama"),
        ("stories260K/stories260K.gguf", "stories260K/stories260K-hf"),
        ("tiny-llama3-rope.gguf", "tiny-llama3-rope"),
    ];
    for (file, folder) in pairs {
        let (Some(file), Some(folder)) = (golden(file), golden(folder)) else {
            return;
        };
        let file = Manifest::open(&file).expect("opens");
        let folder = Manifest::open(&folder).expect("opens");
        check_blocks(&file);
        check_blocks(&folder);
        let factors = file
            .config
            .rope
            .factors
            .iter()
            .zip(&folder.config.rope.factors);
        assert_eq!(
            file.config.rope.factors.len(),
            folder.config.rope.factors.len()
        );
        factors.for_each(|(a, b)| assert!((a - b).abs() <= 1e-5 * a, "{a} {b}"));
        let mut other = folder.config.clone();
        other.rope = file.config.rope.clone();
        assert_eq!(file.config, other);
        assert_eq!(file.special, folder.special);
        assert_eq!(file.weight_bytes(), folder.weight_bytes());
        assert_eq!(file.step_bytes(), folder.step_bytes());
    }
}

#[test]
fn golden_quantised_llama_opens() {
    let Some(path) = golden("tiny-llama-q8_0.gguf") else {
        return;
    };
    let manifest = Manifest::open(&path).expect("opens");
    check_blocks(&manifest);
    assert!(manifest.types()[&WeightType::Q8_0].0 > 20);
}

#[test]
fn golden_vocabularies_open_as_containers_only() {
    let Some(models) = golden("") else { return };
    for name in ["llama-spm", "llama-bpe", "qwen2"] {
        let path = models.join(format!("../vocabs/ggml-vocab-{name}.gguf"));
        let container = Container::open(&path).expect("opens");
        let metadata = container.metadata().expect("is a GGUF file");
        let tokens = metadata
            .strings("tokenizer.ggml.tokens")
            .expect("has tokens");
        let types = metadata
            .i32s("tokenizer.ggml.token_type")
            .expect("has types");
        assert_eq!(tokens.len(), types.len());
        assert!(tokens.iter().all(|token| token.len() < 1000));
        let error = Manifest::from_container(&container).expect_err("has no weights");
        eprintln!("{error}");
    }
}

#[test]
fn golden_others_open_as_containers_only() {
    let names = [
        "tiny-qwen2.gguf",
        "tiny-qwen2",
        "tiny-qwen3moe",
        "tiny-qwen3-q4_k.gguf",
        "tiny-gptoss",
        "tiny-gptoss.gguf",
        "tiny-mistral-window",
    ];
    for name in names {
        let Some(path) = golden(name) else { return };
        let container = Container::open(&path).expect("opens");
        assert!(!container.tensors.is_empty());
        eprintln!("{:?}", container.outline());
        let error = Manifest::from_container(&container).expect_err("is not supported");
        eprintln!("{error}");
    }
}
