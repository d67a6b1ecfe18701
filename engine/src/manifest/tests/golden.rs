//! The golden folders beside the checkout, where a machine has them.

use super::super::*;
use super::check_blocks;
use crate::config::Arch;

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

#[test]
fn llamas_open_alike_from_both_forms() {
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
fn quantised_llama_opens() {
    let Some(path) = golden("tiny-llama-q8_0.gguf") else {
        return;
    };
    let manifest = Manifest::open(&path).expect("opens");
    check_blocks(&manifest);
    assert!(manifest.types()[&WeightType::Q8_0].0 > 20);
}

#[test]
fn vocabularies_open_as_containers_only() {
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
fn the_families_beside_llama_open() {
    for (name, arch) in [
        ("tiny-qwen2.gguf", Arch::Qwen2),
        ("tiny-qwen2", Arch::Qwen2),
        ("tiny-qwen3-q4_k.gguf", Arch::Qwen3),
        ("tiny-qwen3moe.gguf", Arch::Qwen3Moe),
        ("tiny-qwen3moe", Arch::Qwen3Moe),
    ] {
        let Some(path) = golden(name) else { return };
        let manifest = Manifest::open(&path).expect("is supported");
        assert_eq!(manifest.config.arch, arch);
        let has = |role| manifest.find(role, Some(0)).is_some();
        assert_eq!(has(Role::QBias), arch == Arch::Qwen2);
        assert_eq!(
            has(Role::QNorm),
            matches!(arch, Arch::Qwen3 | Arch::Qwen3Moe)
        );
        assert_eq!(has(Role::Router), arch == Arch::Qwen3Moe);
        if let Some(experts) = manifest.config.experts {
            let last = manifest
                .program
                .expert(manifest.config.layers - 1, experts.count - 1);
            assert_eq!(last.index(), manifest.blocks.len() - 1);
            assert_eq!(manifest.block(last).parts.len(), 3);
        }
    }
}

#[test]
fn others_open_as_containers_only() {
    let names = ["tiny-gptoss", "tiny-gptoss.gguf", "tiny-mistral-window"];
    for name in names {
        let Some(path) = golden(name) else { return };
        let container = Container::open(&path).expect("opens");
        assert!(!container.tensors.is_empty());
        eprintln!("{:?}", container.outline());
        let error = Manifest::from_container(&container).expect_err("is not supported");
        eprintln!("{error}");
    }
}
