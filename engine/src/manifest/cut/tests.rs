//! Properties of the cut: every row once and in order, sizes near their share.

use super::super::testing::Llama;
use super::super::tests::check_blocks;
use super::super::{Container, Form, Manifest, SourceFile};
use super::*;
use crate::manifest::gguf::Header;
use proptest::prelude::*;

fn manifest(llama: &Llama) -> Manifest {
    let (_, bytes) = llama.gguf().bytes();
    let len = bytes.len() as u64;
    let header = Header::read(bytes.as_slice(), len).expect("a right file");
    let (path, form) = ("test".into(), Form::Gguf(header.metadata));
    let files = vec![SourceFile {
        path: "test".into(),
        len,
    }];
    let container = Container {
        path,
        files,
        tensors: header.tensors,
        form,
        source: super::super::files::ModelFiles::Disk,
    };
    Manifest::from_container(&container).expect("a right model")
}

#[test]
fn the_target_is_a_share_of_the_model_within_bounds() {
    let gib = 1 << 30;
    let targets = [0, 1 << 23, gib, 4 * gib, 400 * gib].map(target_bytes);
    assert_eq!(targets, [32 << 10, 32 << 10, 4 << 20, 16 << 20, 16 << 20]);
}

#[test]
fn small_sections_are_one_block_each() {
    let manifest = manifest(&Llama {
        biases: true,
        ..Llama::SMALL
    });
    check_blocks(&manifest);
    assert_eq!(manifest.blocks.len(), 2 * 3 + 1);
    let roles = |block: usize| {
        let parts = manifest.blocks[block].parts.iter();
        parts
            .map(|part| manifest.tensors[part.tensor].role)
            .collect::<Vec<_>>()
    };
    // Everything but the norms of the heads and the router, which llama has none of.
    let is_llamas = |role: &&Role| !matches!(role, Role::QNorm | Role::KNorm | Role::Router);
    let expected: Vec<Role> = ATTENTION.iter().filter(is_llamas).copied().collect();
    assert_eq!(roles(0), expected);
    assert_eq!(roles(1), [Role::Gate, Role::Up]);
    assert_eq!(roles(2), [Role::Down]);
    assert_eq!(roles(6), [Role::OutputNorm, Role::Output]);
}

#[test]
fn rows_above_the_target_are_blocks_of_one_row() {
    let Manifest {
        mut tensors,
        config,
        ..
    } = manifest(&Llama::SMALL);
    for tensor in &mut tensors {
        tensor.cols *= 2048;
        tensor.len *= 2048;
        tensor.offset *= 2048;
    }
    let (blocks, program) = cut(&tensors, &config);
    // 8 and 12 columns times 2048 in float32 are 64 and 96 KiB.
    assert_eq!(program.layers[1].gate_up.len(), 12);
    assert_eq!(program.layers[1].down.len(), 8);
    let down = &blocks[program.layers[1].down.start as usize + 3];
    assert_eq!((down.parts[0].row0, down.parts[0].rows), (3, 1));
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 48, ..ProptestConfig::default()
    })]

    #[test]
    fn blocks_cover_every_row_once(
        (layers, dim, vocab, ffn) in (1_usize..4, 1_u64..12, 1_u64..600, 1_u64..20),
        (kv_heads, group, head_dim) in (1_u64..4, 1_u64..4, 1_u64..3),
        (tied, biases, quantised) in any::<(bool, bool, bool)>(),
    ) {
        let llama = Llama {
            layers, dim: dim * 32, heads: kv_heads * group, kv_heads, head_dim: head_dim * 32,
            ffn: ffn * 32, vocab, tied, biases, ty: if quantised { 8 } else { 0 },
        };
        let manifest = manifest(&llama);
        check_blocks(&manifest);
        let target = target_bytes(manifest.weight_bytes());
        for layer in &manifest.program.layers {
            for section in [&layer.attention, &layer.gate_up, &layer.down] {
                let blocks = &manifest.blocks[section.start as usize..section.end as usize];
                let bytes: u64 = blocks.iter().map(|block| block.spec.data_bytes()).sum();
                let count = bytes.div_ceil(target);
                prop_assert!(blocks.len() as u64 <= count);
                for block in blocks {
                    // A border is off by at most half a row on both sides.
                    let rows = block.parts.iter().map(|part| &manifest.tensors[part.tensor]);
                    let slack = 2 * rows.map(Tensor::row_bytes).max().unwrap_or(0);
                    let found = block.spec.data_bytes();
                    prop_assert!(found.abs_diff(bytes / count) <= slack + 1, "{found} {bytes}/{count}");
                }
            }
        }
    }
}
