//! Quantisation of activation rows; the layout is that of [`crate::q8`].

use crate::q8::{AMAX_MIN, BLOCK, GROUP, GROUP_BYTES, SCALES_AT, SUMS_AT, dword_at};

/// Shapes: `x` (cols); `out` whole groups.
pub(crate) fn row(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(GROUP).zip(out.chunks_exact_mut(GROUP_BYTES)) {
        out.fill(0);
        for (block, x) in x.chunks_exact(BLOCK).enumerate() {
            let amax = x.iter().fold(0.0_f32, |amax, x| amax.max(x.abs()));
            if amax < AMAX_MIN {
                continue;
            }
            let inverse = 127.0 / amax;
            let mut sum = 0;
            for (dword, x) in x.chunks_exact(4).enumerate() {
                for (byte, x) in x.iter().enumerate() {
                    let value = (x * inverse).round_ties_even() as i8;
                    out[dword_at(block, dword) + byte] = value as u8;
                    sum += i32::from(value);
                }
            }
            out[SUMS_AT + block * 4..][..4].copy_from_slice(&(-128 * sum).to_le_bytes());
            out[SCALES_AT + block * 4..][..4].copy_from_slice(&(amax / 127.0).to_le_bytes());
        }
    }
}
