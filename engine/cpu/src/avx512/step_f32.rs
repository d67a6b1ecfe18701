//! Dot products along float rows, for steps.
//!
//! Element i goes to lane i mod 16 of chain i / 16 mod 2, whatever the number of rows.

use super::lanes::{self, elem_bytes, first_lanes};
use crate::panel::Panel;
use core::arch::x86_64::*;

/// Weight rows are walked one after the other: one stream of memory per thread.
///
/// # Safety
/// As [`super::panel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn panel<const T: u8>(panel: &Panel<'_>, tile: &mut [f32]) {
    let cols = panel.w.cols();
    for j in 0..panel.wn {
        let w = super::row_ptr(panel.w, panel.w0 + j);
        let mut r = 0;
        while r < panel.xn {
            let x = panel.x.f32[(panel.x0 + r) * cols..].as_ptr();
            let out = &mut tile[r * panel.wn + j..];
            // SAFETY: rows r..r + M exist, each of `cols` elements.
            r += unsafe {
                match panel.xn - r {
                    1 => dots::<T, 1>(w, x, cols, out, panel.wn),
                    2 => dots::<T, 2>(w, x, cols, out, panel.wn),
                    3 => dots::<T, 3>(w, x, cols, out, panel.wn),
                    4..8 => dots::<T, 4>(w, x, cols, out, panel.wn),
                    _ => dots::<T, 8>(w, x, cols, out, panel.wn),
                }
            };
        }
    }
}

/// One weight row with `M` activation rows; returns `M`.
///
/// # Safety
/// `w` has `cols` elements of type `T`, `x` has `M` rows of `cols`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dots<const T: u8, const M: usize>(
    w: *const u8,
    x: *const f32,
    cols: usize,
    out: &mut [f32],
    stride: usize,
) -> usize {
    let mut chains = [[_mm512_setzero_ps(); 2]; M];
    let mut at = 0;
    // SAFETY: the loop ends before `cols`; the tail masks what lies beyond.
    unsafe {
        while at + 32 <= cols {
            for half in 0..2 {
                let i = at + half * 16;
                let w = lanes::load::<T>(w.add(i * elem_bytes::<T>()));
                for r in 0..M {
                    let x = _mm512_loadu_ps(x.add(r * cols + i));
                    chains[r][half] = _mm512_fmadd_ps(w, x, chains[r][half]);
                }
            }
            at += 32;
        }
        for half in 0..2 {
            let i = at + half * 16;
            if i < cols {
                let mask = first_lanes(cols - i);
                let w = lanes::load_masked::<T>(w.add(i * elem_bytes::<T>()), mask);
                for r in 0..M {
                    let x = _mm512_maskz_loadu_ps(mask, x.add(r * cols + i));
                    chains[r][half] = _mm512_fmadd_ps(w, x, chains[r][half]);
                }
            }
        }
    }
    for (r, [even, odd]) in chains.into_iter().enumerate() {
        out[r * stride] = lanes::sum(_mm512_add_ps(even, odd));
    }
    M
}
