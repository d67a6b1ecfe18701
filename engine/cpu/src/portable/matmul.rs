//! Dot products in lanes; quantised weights with quantised activations.

use super::lanes;
use crate::decode::{Q4K_BYTES, decode, q4k_factors, q4k_scales, q4k_value};
use crate::matrix::Matrix;
use crate::panel::Panel;
use crate::q8::{self, GROUP_BLOCKS, GROUP_BYTES, SCALES_AT, SUMS_AT, dword_at};
use crate::weight::WeightType;
use half::f16;

/// Shapes: `tile` (xn, wn); `work` at least (K).
pub(crate) fn panel(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    match panel.w.ty() {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => floats(panel, tile, work),
        WeightType::Q8_0 => quantised(panel, tile, dot_q8_0),
        WeightType::Q4K => quantised(panel, tile, dot_q4k),
    }
}

fn floats(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    let cols = panel.w.cols();
    let row = &mut work[..cols];
    for j in 0..panel.wn {
        decode(panel.w.ty(), panel.w.row(panel.w0 + j), row);
        for r in 0..panel.xn {
            let x = &panel.x.f32[(panel.x0 + r) * cols..][..cols];
            tile[r * panel.wn + j] = lanes::dot(row, x);
        }
    }
}

fn quantised(panel: &Panel<'_>, tile: &mut [f32], dot: impl Fn(&Matrix<'_>, usize, &[u8]) -> f32) {
    let row_bytes = q8::row_bytes(panel.w.cols());
    let q8 = panel.x.q8.expect("checked by the caller");
    for j in 0..panel.wn {
        for r in 0..panel.xn {
            let x = &q8[(panel.x0 + r) * row_bytes..][..row_bytes];
            tile[r * panel.wn + j] = dot(panel.w, panel.w0 + j, x);
        }
    }
}

/// Exact integer sum per block, then one float chain per block of the group.
fn dot_q8_0(w: &Matrix<'_>, row: usize, x: &[u8]) -> f32 {
    let mut chains = [0.0; GROUP_BLOCKS];
    let groups = w
        .row(row)
        .chunks(GROUP_BLOCKS * 34)
        .zip(x.chunks_exact(GROUP_BYTES));
    for (w, x) in groups {
        for (block, w) in w.chunks_exact(34).enumerate() {
            let mut sum = 0;
            for (dword, w) in w[2..].chunks_exact(4).enumerate() {
                let x = &x[dword_at(block, dword)..][..4];
                let products = w
                    .iter()
                    .zip(x)
                    .map(|(w, x)| i32::from(*w as i8) * i32::from(*x as i8));
                sum += products.sum::<i32>();
            }
            let scale = x[SCALES_AT + block * 4..][..4]
                .try_into()
                .map_or(0.0, f32::from_le_bytes);
            let scale = scale * f16::from_le_bytes([w[0], w[1]]).to_f32();
            chains[block] += sum as f32 * scale;
        }
    }
    lanes::sum(chains)
}

/// As `dot_q8_0`; the minimum of a sub-block meets the sum of its activations.
fn dot_q4k(w: &Matrix<'_>, row: usize, x: &[u8]) -> f32 {
    let mut chains = [0.0; GROUP_BLOCKS];
    let groups = w
        .row(row)
        .chunks(2 * Q4K_BYTES)
        .zip(x.chunks_exact(GROUP_BYTES));
    for (w, x) in groups {
        for (half, w) in w.chunks_exact(Q4K_BYTES).enumerate() {
            let (d, dmin) = q4k_factors(w);
            let (scales, minimums) = q4k_scales(w);
            for sub in 0..8 {
                let block = half * 8 + sub;
                let product = |i: usize| {
                    let x = x[dword_at(block, i / 4) + i % 4] as i8;
                    i32::from(q4k_value(w, sub, i)) * i32::from(x)
                };
                let sum: i32 = (0..32).map(product).sum();
                let at = |at: usize| x[at + block * 4..][..4].try_into().unwrap_or_default();
                let scale = f32::from_le_bytes(at(SCALES_AT));
                let sum_x = i32::from_le_bytes(at(SUMS_AT)) as f32 * (-1.0 / 128.0);
                chains[block] += sum as f32 * (d * f32::from(scales[sub]) * scale);
                chains[block] -= sum_x * (dmin * f32::from(minimums[sub]) * scale);
            }
        }
    }
    lanes::sum(chains)
}
