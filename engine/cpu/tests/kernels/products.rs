//! Products against the naive reference, and their bits against every cut.

use crate::data::{Aligned, Noise, Weights, bits, close, kernels};
use larder_cpu::{Class, Isa, Kernels, Matrix, Mode, Out, Product, Rows, WeightType};
use proptest::prelude::*;

/// One product of rows `rows` of `x`, through row blocks that end at `cuts`.
fn product(
    kernels: &Kernels,
    class: Class,
    w: &Weights,
    x: &[f32],
    rows: usize,
    cuts: &[usize],
) -> Vec<f32> {
    let q8 = quantised(kernels, class, w.ty, x, w.cols);
    let q8 = q8.as_ref().map(Aligned::bytes);
    let rows = Rows {
        f32: x,
        q8,
        rows,
        cols: w.cols,
    };
    let mut data = vec![f32::NAN; rows.rows * w.rows];
    let mut row0 = 0;
    for end in cuts.iter().copied().chain([w.rows]) {
        let matrix = w.matrix(row0, end);
        let mut out = Out {
            data: &mut data,
            stride: w.rows,
            col0: row0,
            mode: Mode::Store,
        };
        kernels.matmul(class, &matrix, &rows, None, &mut out);
        row0 = end;
    }
    data
}

fn quantised(
    kernels: &Kernels,
    class: Class,
    ty: WeightType,
    x: &[f32],
    cols: usize,
) -> Option<Aligned> {
    kernels.quantises(class, ty).then(|| {
        let mut q8 = Aligned::new(x.len() / cols * Kernels::quantised_bytes(cols));
        kernels.quantise(x, cols, q8.bytes_mut());
        q8
    })
}

/// Largest error that the class of a type may show for unit noise.
fn tolerance(ty: WeightType, cols: usize) -> f32 {
    let exact = 2e-6 * cols as f32;
    // activations rounded to 1/254 of the largest of 32, errors independent
    if ty == WeightType::Q8_0 {
        exact + 0.016 * (cols as f32).sqrt()
    } else {
        exact
    }
}

#[test]
fn every_isa_agrees_with_the_reference() {
    let reference = kernels(Isa::Reference, 1);
    for ty in WeightType::ALL {
        for (cols, rows) in [
            (8, 3),
            (64, 1),
            (96, 7),
            (172, 33),
            (544, 20),
            (1056, 70),
            (4640, 5),
        ] {
            if cols % ty.block_elems() != 0 {
                continue;
            }
            let w = Weights::new(ty, rows, cols, 5);
            for count in [1, 2, 3, 5, 16, 29] {
                let x = Noise(count as u64).floats(count * cols);
                let expected = product(&reference, Class::Chunk, &w, &x, count, &[]);
                for isa in Isa::available() {
                    for class in [Class::Step, Class::Chunk] {
                        if class == Class::Step && count > Class::STEP_ROWS_MAX {
                            continue;
                        }
                        let found = product(&kernels(isa, 1), class, &w, &x, count, &[]);
                        let what = format!("{isa:?} {class:?} {ty:?} {rows}x{cols} m={count}");
                        close(&found, &expected, tolerance(ty, cols), &what);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..Default::default()
    })]

    /// The promise: batch mates, threads, row blocks, chunk borders and alignment never show.
    #[test]
    fn equal_bits_however_it_is_cut(
        seed in any::<u64>(),
        blocks in 1_usize..80,
        rows in 1_usize..90,
        cut in 0_usize..90,
        phase in 0_usize..64,
    ) {
        let cut = cut.min(rows);
        for ty in WeightType::ALL {
            let cols = match ty.block_elems() {
                1 => blocks * 12,
                32 => blocks * 32,
                elems => (blocks % 7 + 1) * elems,
            };
            let w = Weights::new(ty, rows, cols, phase);
            let moved = w.moved((phase + 13) % 64);
            let x = Noise(seed).floats(16 * cols);
            for isa in Isa::available() {
                for class in [Class::Step, Class::Chunk] {
                    let one = kernels(isa, 1);
                    let whole = product(&one, class, &w, &x, 16, &[]);
                    for (count, threads) in [(1, 1), (2, 2), (3, 1), (5, 2), (8, 1), (16, 2)] {
                        let kernels = kernels(isa, threads);
                        for first in (0..16).step_by(count) {
                            let count = count.min(16 - first);
                            let x = &x[first * cols..][..count * cols];
                            let part = product(&kernels, class, &moved, x, count, &[cut]);
                            let expected = &whole[first * rows..][..count * rows];
                            let equal = bits(&part) == bits(expected);
                            prop_assert!(equal, "{isa:?} {class:?} {ty:?} {rows}x{cols} m={count}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_long_chunk_equals_its_rows() {
    let count = 530;
    for ty in WeightType::ALL {
        let w = Weights::new(ty, 130, if ty == WeightType::Q4K { 768 } else { 576 }, 2);
        let x = Noise(9).floats(count * w.cols);
        for isa in Isa::available() {
            let kernels = kernels(isa, 2);
            let whole = product(&kernels, Class::Chunk, &w, &x, count, &[]);
            for first in [0, 7, 263, 264, 505, 529] {
                let x = &x[first * w.cols..][..w.cols];
                let row = product(&kernels, Class::Chunk, &w, x, 1, &[64]);
                let expected = &whole[first * w.rows..][..w.rows];
                assert_eq!(bits(&row), bits(expected), "{isa:?} {ty:?} row {first}");
            }
        }
    }
}

#[test]
fn bias_and_add_reach_their_columns_only() {
    let w = Weights::new(WeightType::Bf16, 5, 40, 1);
    let x = Noise(3).floats(2 * 40);
    let rows = Rows {
        f32: &x,
        q8: None,
        rows: 2,
        cols: 40,
    };
    let bias = Noise(4).floats(5);
    for isa in Isa::available() {
        let kernels = kernels(isa, 2);
        let dots = product(&kernels, Class::Step, &w, &x, 2, &[]);
        let mut data = vec![1.0; 2 * 9];
        let mut out = Out {
            data: &mut data,
            stride: 9,
            col0: 3,
            mode: Mode::Add,
        };
        kernels.matmul(Class::Step, &w.matrix(0, 5), &rows, Some(&bias), &mut out);
        for (i, found) in data.into_iter().enumerate() {
            let (r, col) = (i / 9, i % 9);
            let expected = match col {
                3..8 => 1.0 + (dots[r * 5 + col - 3] + bias[col - 3]),
                _ => 1.0,
            };
            assert_eq!(found, expected, "{isa:?} ({r}, {col})");
        }
    }
}

#[test]
fn gate_up_is_the_gate_times_the_product() {
    for ty in WeightType::ALL {
        let (gate, up) = (Weights::new(ty, 45, 256, 3), Weights::new(ty, 45, 256, 7));
        for (class, count) in [(Class::Step, 3), (Class::Step, 9), (Class::Chunk, 21)] {
            let x = Noise(1).floats(count * 256);
            for isa in Isa::available() {
                let kernels = kernels(isa, 2);
                let gates = product(&kernels, class, &gate, &x, count, &[]);
                let ups = product(&kernels, class, &up, &x, count, &[]);
                let q8 = quantised(&kernels, class, ty, &x, 256);
                let q8 = q8.as_ref().map(Aligned::bytes);
                let rows = Rows {
                    f32: &x,
                    q8,
                    rows: count,
                    cols: 256,
                };
                let mut found = vec![0.0; count * 45];
                let mut out = Out {
                    data: &mut found,
                    stride: 45,
                    col0: 0,
                    mode: Mode::Store,
                };
                kernels.gate_up(
                    class,
                    &gate.matrix(0, 45),
                    &up.matrix(0, 45),
                    &rows,
                    &mut out,
                );
                for ((found, gate), up) in found.iter().zip(gates).zip(ups) {
                    let gate = f64::from(gate);
                    let expected = gate / (1.0 + (-gate).exp()) * f64::from(up);
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error <= 1e-6 * expected.abs() + 1e-30, "{isa:?} {ty:?}");
                }
            }
        }
    }
}

#[test]
fn gate_and_up_may_differ_in_type() {
    let gate = Weights::new(WeightType::F32, 70, 512, 3);
    let up = Weights::new(WeightType::Q8_0, 70, 512, 7);
    for (class, count) in [(Class::Step, 3), (Class::Step, 9), (Class::Chunk, 21)] {
        let x = Noise(1).floats(count * 512);
        for isa in Isa::available() {
            for (gate, up) in [(&gate, &up), (&up, &gate)] {
                let kernels = kernels(isa, 2);
                let gates = product(&kernels, class, gate, &x, count, &[]);
                let ups = product(&kernels, class, up, &x, count, &[]);
                let q8 = quantised(&kernels, class, WeightType::Q8_0, &x, 512);
                let q8 = q8.as_ref().map(Aligned::bytes);
                let rows = Rows {
                    f32: &x,
                    q8,
                    rows: count,
                    cols: 512,
                };
                let mut found = vec![0.0; count * 70];
                let mut out = Out {
                    data: &mut found,
                    stride: 70,
                    col0: 0,
                    mode: Mode::Store,
                };
                kernels.gate_up(
                    class,
                    &gate.matrix(0, 70),
                    &up.matrix(0, 70),
                    &rows,
                    &mut out,
                );
                let expected = gates
                    .iter()
                    .zip(&ups)
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u);
                close(&found, &expected.collect::<Vec<_>>(), 1e-3, isa.name());
            }
        }
    }
}

/// Rows enough for tasks of every size, of types that differ in the panels they want.
#[test]
fn products_that_run_together_have_the_bits_of_each() {
    let (cols, cuts) = (512, [0, 7, 600, 1100]);
    let q = Weights::new(WeightType::Q8_0, 1100, cols, 3);
    let k = Weights::new(WeightType::F16, 1100, cols, 9);
    for (class, count) in [(Class::Step, 1), (Class::Step, 7), (Class::Chunk, 21)] {
        let x = Noise(2).floats(count * cols);
        for (isa, threads) in Isa::available().into_iter().zip([1, 2, 3, 4]) {
            let kernels = kernels(isa, threads);
            let q8 = quantised(&kernels, class, q.ty, &x, cols);
            let rows = Rows {
                f32: &x,
                q8: q8.as_ref().map(Aligned::bytes),
                rows: count,
                cols,
            };
            let alone = [&q, &k].map(|w| product(&kernels, class, w, &x, count, &[]));
            let mut found = [(); 2].map(|()| vec![1.0; count * 1100]);
            let targets = [&q, &k].into_iter().zip(&mut found);
            let products = targets.map(|(w, data)| Product {
                blocks: cuts
                    .windows(2)
                    .map(|cut| w.matrix(cut[0], cut[1]))
                    .collect(),
                out: Out {
                    data,
                    stride: 1100,
                    col0: 0,
                    mode: Mode::Store,
                },
            });
            kernels.matmuls(class, &rows, &mut products.collect::<Vec<_>>());
            for (found, alone) in found.iter().zip(&alone) {
                assert_eq!(bits(found), bits(alone), "{isa:?} m={count}");
            }
            let blocks = cuts
                .windows(2)
                .map(|cut| [&q, &k].map(|w| w.matrix(cut[0], cut[1])));
            let blocks: Vec<[Matrix<'_>; 2]> = blocks.collect();
            let pairs: Vec<[&Matrix<'_>; 2]> = blocks.iter().map(|[q, k]| [q, k]).collect();
            let gated = |pairs: &[[&Matrix<'_>; 2]]| {
                let mut data = vec![0.0; count * 1100];
                let mut out = Out {
                    data: &mut data,
                    stride: 1100,
                    col0: 0,
                    mode: Mode::Store,
                };
                kernels.gate_ups(class, pairs, &rows, &mut out);
                bits(&data)
            };
            let (q, k) = (q.matrix(0, 1100), k.matrix(0, 1100));
            assert_eq!(gated(&pairs), gated(&[[&q, &k]]), "{isa:?} m={count}");
        }
    }
}

#[test]
fn quantised_rows_are_equal_on_every_isa() {
    let portable = kernels(Isa::Portable, 1);
    for cols in [32, 64, 512, 896, 1536] {
        let mut x = Noise(cols as u64).floats(3 * cols);
        x[..32].fill(0.0);
        x[cols..cols + 32].fill(1e-38);
        let bytes = 3 * Kernels::quantised_bytes(cols);
        let mut expected = Aligned::new(bytes);
        portable.quantise(&x, cols, expected.bytes_mut());
        for isa in Isa::available() {
            let mut found = Aligned::new(bytes);
            found.bytes_mut().fill(0xee);
            kernels(isa, 2).quantise(&x, cols, found.bytes_mut());
            assert_eq!(found.bytes(), expected.bytes(), "{isa:?} {cols}");
        }
    }
}

#[test]
fn norms_agree_with_the_reference() {
    let reference = kernels(Isa::Reference, 1);
    for cols in [8, 64, 172, 2048] {
        let (x, weight) = (Noise(5).floats(3 * cols), Noise(6).floats(cols));
        let mut expected = vec![0.0; 3 * cols];
        reference.rms_norm(&x, &weight, 1e-5, 3, &mut expected);
        for isa in Isa::available() {
            let mut found = vec![0.0; 3 * cols];
            kernels(isa, 2).rms_norm(&x, &weight, 1e-5, 3, &mut found);
            close(&found, &expected, 1e-5, isa.name());
        }
    }
}

#[test]
fn wrong_shapes_are_typed_errors() {
    assert!(Matrix::new(WeightType::Q8_0, 1, 33, &[0; 68]).is_err());
    assert!(Matrix::new(WeightType::F16, 2, 3, &[0; 11]).is_err());
    assert!(Matrix::new(WeightType::F32, usize::MAX, 8, &[0; 32]).is_err());
    assert!(Matrix::new(WeightType::F32, 0, 8, &[]).is_ok());
}
