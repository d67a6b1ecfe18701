//! Dot products in lanes; quantised weights with quantised activations.

use super::lanes;
use crate::decode::decode;
use crate::kernels::Kernels;
use crate::panel::Panel;
use crate::q8::{GROUP_BLOCKS, GROUP_BYTES, SCALES_AT, dword_at};
use crate::{Matrix, WeightType};
use half::f16;

/// Shapes: `tile` (xn, wn); `work` at least (K).
pub(crate) fn panel(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    match panel.w.ty() {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => floats(panel, tile, work),
        WeightType::Q8_0 => quantised(panel, tile),
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

fn quantised(panel: &Panel<'_>, tile: &mut [f32]) {
    let row_bytes = Kernels::quantised_bytes(panel.w.cols());
    let q8 = panel.x.q8.expect("checked by the caller");
    for j in 0..panel.wn {
        for r in 0..panel.xn {
            let x = &q8[(panel.x0 + r) * row_bytes..][..row_bytes];
            tile[r * panel.wn + j] = dot_q8_0(panel.w, panel.w0 + j, x);
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
