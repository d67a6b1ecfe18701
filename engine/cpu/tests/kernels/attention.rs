//! Attention against the naive softmax, and its bits against every cut.

use crate::data::{Noise, bits, close, kernels};
use larder_cpu::{AttnRow, AttnShape, Class, Isa, KV_TOKENS, KvShape, KvType, Segment};
use proptest::prelude::*;

/// Stored K and V of one sequence.
fn sequence(kv: &KvShape, tokens: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut slices = vec![vec![0xff; kv.slice_bytes()]; tokens.div_ceil(KV_TOKENS)];
    let elems = kv.kv_heads() * kv.head_dim();
    for token in 0..tokens {
        let k = Noise(seed + 2 * token as u64).floats(elems);
        let v = Noise(seed + 2 * token as u64 + 1).floats(elems);
        kv.append(&mut slices[token / KV_TOKENS], token % KV_TOKENS, &k, &v);
    }
    slices
}

fn views(slices: &[Vec<u8>]) -> Vec<&[u8]> {
    slices.iter().map(Vec::as_slice).collect()
}

/// Shapes worth testing: MHA, GQA, odd heads, all sizes of a group of queries.
const SHAPES: [(usize, usize, usize, KvType); 8] = [
    (2, 2, 8, KvType::F32),
    (4, 2, 64, KvType::F16),
    (6, 2, 80, KvType::F16),
    (4, 1, 128, KvType::F16),
    (8, 2, 64, KvType::Q8),
    (2, 1, 256, KvType::F32),
    (7, 1, 64, KvType::F16),
    (8, 1, 128, KvType::Q8),
];

#[test]
fn every_isa_agrees_with_the_naive_softmax() {
    for (heads, kv_heads, head_dim, ty) in SHAPES {
        let kv = KvShape::new(kv_heads, head_dim, ty).expect("valid");
        let long = sequence(&kv, 200, 1);
        let short = sequence(&kv, 3, 77);
        let (long, short) = (views(&long), views(&short));
        let rows = [
            (0, 199),
            (1, 2),
            (0, 63),
            (0, 64),
            (0, 65),
            (1, 0),
            (0, 150),
        ];
        let rows = rows.map(|(seq, position)| AttnRow { seq, position });
        // large queries make the softmax sharp
        let q = Noise(3)
            .floats(rows.len() * heads * head_dim)
            .iter()
            .map(|q| q * 8.0)
            .collect::<Vec<_>>();
        let sinks = Noise(4).floats(heads);
        for window in [None, Some(1), Some(40), Some(64), Some(100)] {
            for sinks in [None, Some(sinks.as_slice())] {
                let scale = 1.0 / (head_dim as f32).sqrt();
                let shape = AttnShape {
                    heads,
                    kv,
                    scale,
                    window,
                    sinks,
                };
                let attend = |isa| {
                    let mut out = vec![f32::NAN; q.len()];
                    let seqs = [long.as_slice(), short.as_slice()];
                    kernels(isa, 2).attention(Class::Step, &shape, &rows, &q, &seqs, &mut out);
                    out
                };
                let expected = attend(Isa::Reference);
                for isa in Isa::available() {
                    let what = format!("{isa:?} {heads}/{kv_heads}x{head_dim} {ty:?} {window:?}");
                    close(&attend(isa), &expected, 5e-6, &what);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Batch mates, threads and chunk borders never show.
    #[test]
    fn equal_bits_however_it_is_cut(
        seed in any::<u32>(),
        shape in 0..SHAPES.len(),
        start in 0_usize..150,
        count in 1_usize..60,
        window in prop::option::of(1_usize..150),
        cut in 0_usize..60,
    ) {
        let (heads, kv_heads, head_dim, ty) = SHAPES[shape];
        let kv = KvShape::new(kv_heads, head_dim, ty).expect("valid");
        let slices = sequence(&kv, start + count, u64::from(seed));
        let mut seq = views(&slices);
        let shape = AttnShape { heads, kv, scale: 0.2, window, sinks: None };
        let rows: Vec<AttnRow> = (start..start + count)
            .map(|position| AttnRow { seq: 0, position })
            .collect();
        let elems = heads * head_dim;
        let q = Noise(u64::from(seed)).floats(count * elems);
        // slices wholly behind the window may be gone
        let gone = window.map_or(0, |window| (start + 1).saturating_sub(window) / KV_TOKENS);
        for slice in &mut seq[..gone] {
            *slice = &[];
        }
        let seqs = [seq.as_slice()];
        for isa in Isa::available() {
            let mut whole = vec![0.0; q.len()];
            kernels(isa, 1).attention(Class::Chunk, &shape, &rows, &q, &seqs, &mut whole);
            let two = kernels(isa, 2);
            let cut = cut.min(count);
            let mut parts = vec![0.0; q.len()];
            let (head, tail) = parts.split_at_mut(cut * elems);
            two.attention(Class::Chunk, &shape, &rows[..cut], &q[..cut * elems], &seqs, head);
            two.attention(Class::Chunk, &shape, &rows[cut..], &q[cut * elems..], &seqs, tail);
            prop_assert_eq!(bits(&parts), bits(&whole), "{:?} chunk", isa);
            // a step of several rows equals steps of one
            let few = count.min(16);
            let mut batch = vec![0.0; few * elems];
            two.attention(Class::Step, &shape, &rows[..few], &q[..few * elems], &seqs, &mut batch);
            for i in 0..few {
                let mut one = vec![0.0; elems];
                let q = &q[i * elems..][..elems];
                two.attention(Class::Step, &shape, &rows[i..=i], q, &seqs, &mut one);
                prop_assert_eq!(bits(&one), bits(&batch[i * elems..][..elems]), "{:?} step", isa);
            }
        }
    }
}

/// The naive softmax over everything at once, which no kernel of ours computes.
#[test]
fn the_reference_agrees_with_the_definition() {
    let (heads, head_dim) = (2, 8);
    let kv = KvShape::new(2, head_dim, KvType::F32).expect("valid");
    let elems = kv.kv_heads() * head_dim;
    let tokens = 150;
    let slices = sequence(&kv, tokens, 5);
    let seq = views(&slices);
    let q = Noise(9).floats(elems);
    let rows = [AttnRow {
        seq: 0,
        position: tokens - 1,
    }];
    let shape = AttnShape {
        heads,
        kv,
        scale: 0.7,
        window: None,
        sinks: None,
    };
    let mut found = vec![0.0; elems];
    kernels(Isa::Reference, 1).attention(Class::Step, &shape, &rows, &q, &[&seq], &mut found);
    let stored = |which: u64, token: usize| Noise(5 + 2 * token as u64 + which).floats(elems);
    for head in 0..heads {
        let part = head * head_dim..(head + 1) * head_dim;
        let scores: Vec<f64> = (0..tokens)
            .map(|token| {
                let k = stored(0, token);
                let dot = |(q, k): (&f32, &f32)| f64::from(*q) * f64::from(*k);
                q[part.clone()]
                    .iter()
                    .zip(&k[part.clone()])
                    .map(dot)
                    .sum::<f64>()
                    * 0.7
            })
            .collect();
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        for element in part {
            let expected: f64 = (0..tokens)
                .map(|token| scores[token].exp() / sum * f64::from(stored(1, token)[element]))
                .sum();
            assert!((f64::from(found[element]) - expected).abs() < 1e-5);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Slices may come in any number of segments.
    #[test]
    fn equal_bits_however_the_slices_come(
        seed in any::<u32>(),
        shape in 0..SHAPES.len(),
        start in 0_usize..400,
        count in 1_usize..30,
        cuts in prop::collection::vec(0_usize..8, 0..4),
    ) {
        let (heads, kv_heads, head_dim, ty) = SHAPES[shape];
        let kv = KvShape::new(kv_heads, head_dim, ty).expect("valid");
        let slices = sequence(&kv, start + count, u64::from(seed));
        let seq = views(&slices);
        let shape = AttnShape { heads, kv, scale: 0.2, window: None, sinks: None };
        let rows: Vec<AttnRow> = (start..start + count)
            .map(|position| AttnRow { seq: 0, position })
            .collect();
        let q = Noise(u64::from(seed)).floats(count * heads * head_dim);
        let mut borders: Vec<usize> = cuts.iter().map(|cut| *cut.min(&seq.len())).collect();
        borders.extend([0, seq.len()]);
        borders.sort_unstable();
        borders.dedup();
        for isa in Isa::available() {
            let two = kernels(isa, 2);
            let mut whole = vec![0.0; q.len()];
            two.attention(Class::Chunk, &shape, &rows, &q, &[&seq], &mut whole);
            let mut parts = vec![f32::NAN; q.len()];
            let mut soft = vec![f32::NAN; count * heads * 2];
            for pair in borders.windows(2) {
                let segment = Segment {
                    first_slice: pair[0],
                    slices: &seq[pair[0]..pair[1]],
                    is_first: pair[0] == 0,
                    is_last: pair[1] == seq.len(),
                };
                two.attention_segment(&shape, &rows, &q, &segment, &mut soft, &mut parts);
            }
            prop_assert_eq!(bits(&parts), bits(&whole), "{:?}", isa);
        }
    }
}
