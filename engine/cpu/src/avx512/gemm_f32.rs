//! Tiles of dot products of float weights, for chunks.
//!
//! 128 weight rows × 256 columns are converted and transposed into work memory, so that
//! lanes are weight rows. Fourteen activation rows then share each load. Every dot product is one
//! chain of fused multiply-adds in the order of the columns; it waits in the tile between spans
//! of columns, which changes no bit.

use super::lanes::{self, elem_bytes, first_lanes};
use crate::panel::{GEMM_K, GEMM_N, GEMM_WORK, Panel};
use core::arch::x86_64::*;

/// Weight rows of a strip: two vectors.
const STRIP: usize = 32;
/// Activation rows of a tile.
const X: usize = 14;
/// Floats from one copied activation row to the next: no multiple of a page, so that the rows
/// do not fight for the same sets of L1.
const X_STRIDE: usize = GEMM_K + 16;

const _: () = assert!(GEMM_WORK == GEMM_N * GEMM_K + X * X_STRIDE);

/// # Safety
/// As [`super::panel`]; `work` has [`GEMM_N`] × [`GEMM_K`] floats, 64-byte aligned.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn panel<const T: u8>(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    let cols = panel.w.cols();
    assert!(
        panel.wn <= GEMM_N && work.len() >= GEMM_WORK,
        "room for the packed panel"
    );
    let (work, copy) = work.split_at_mut(GEMM_N * GEMM_K);
    for k0 in (0..cols).step_by(GEMM_K) {
        let kn = GEMM_K.min(cols - k0);
        for s0 in (0..panel.wn).step_by(STRIP) {
            let strip = &mut work[s0 * GEMM_K..][..STRIP * GEMM_K];
            let sn = STRIP.min(panel.wn - s0);
            // SAFETY: rows and columns exist; the strip has room for 32 × 256.
            unsafe { pack::<T>(panel, panel.w0 + s0, sn, k0, kn, strip.as_mut_ptr()) };
        }
        let mut r = 0;
        while r < panel.xn {
            let left = panel.xn - r;
            let mut done = 0;
            for (i, copy) in copy.chunks_exact_mut(X_STRIDE).enumerate().take(left) {
                let x = &panel.x.f32[(panel.x0 + r + i) * cols + k0..][..kn];
                copy[..kn].copy_from_slice(x);
            }
            let x = copy.as_ptr();
            for s0 in (0..panel.wn).step_by(STRIP) {
                let strip = work[s0 * GEMM_K..].as_ptr();
                let sn = STRIP.min(panel.wn - s0);
                let c = Corner {
                    tile: tile[r * panel.wn + s0..].as_mut_ptr(),
                    stride: panel.wn,
                    masks: [first_lanes(sn), first_lanes(sn.saturating_sub(16))],
                    starts: k0 == 0,
                };
                // SAFETY: rows r..r + M exist in the activations and in the tile.
                done = unsafe {
                    match left {
                        1 => multiply::<1>(strip, x, kn, &c),
                        2 | 3 => multiply::<2>(strip, x, kn, &c),
                        4..8 => multiply::<4>(strip, x, kn, &c),
                        8..14 => multiply::<8>(strip, x, kn, &c),
                        _ => multiply::<X>(strip, x, kn, &c),
                    }
                };
            }
            r += done;
        }
    }
}

/// Converts and transposes `sn` rows from `row0` on, columns `k0..k0 + kn`.
///
/// # Safety
/// The rows and columns exist; `out` has room for `kn` × [`STRIP`] floats, 64-byte aligned.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn pack<const T: u8>(
    panel: &Panel<'_>,
    row0: usize,
    sn: usize,
    k0: usize,
    kn: usize,
    out: *mut f32,
) {
    let row_bytes = panel.w.row_bytes();
    let first = super::row_ptr(panel.w, row0);
    for half in 0..2 {
        for k in (0..kn).step_by(16) {
            let mask = first_lanes(kn - k);
            let mut x = [_mm512_setzero_ps(); 16];
            // SAFETY: rows beyond `sn` stay zero, columns beyond `kn` are masked; whole vectors
            // of the strip are ours.
            unsafe {
                for (i, x) in x.iter_mut().enumerate() {
                    let row = half * 16 + i;
                    if row < sn {
                        let p = first.add(row * row_bytes + (k0 + k) * elem_bytes::<T>());
                        *x = lanes::load_masked::<T>(p, mask);
                    }
                }
                let columns = lanes::transpose(x);
                for (i, column) in columns.into_iter().enumerate().take(kn - k) {
                    _mm512_store_ps(out.add((k + i) * STRIP + half * 16), column);
                }
            }
        }
    }
}

/// Where the dot products of one strip go.
struct Corner {
    tile: *mut f32,
    stride: usize,
    /// Lanes of the two vectors that exist.
    masks: [__mmask16; 2],
    /// This is the first span of columns: nothing waits in the tile.
    starts: bool,
}

/// `M` activation rows with one strip; returns `M`.
///
/// # Safety
/// `strip` has `kn` × 32 floats, aligned; `x` has `M` rows [`X_STRIDE`] apart with `kn` columns;
/// the tile has `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn multiply<const M: usize>(
    strip: *const f32,
    x: *const f32,
    kn: usize,
    c: &Corner,
) -> usize {
    let mut chains = [[_mm512_setzero_ps(); 2]; M];
    // SAFETY: the caller's; masked lanes are not touched.
    unsafe {
        if !c.starts {
            for (r, chains) in chains.iter_mut().enumerate() {
                let tile = c.tile.add(r * c.stride);
                *chains = [
                    _mm512_maskz_loadu_ps(c.masks[0], tile),
                    _mm512_maskz_loadu_ps(c.masks[1], tile.wrapping_add(16)),
                ];
            }
        }
        for k in 0..kn {
            let w0 = _mm512_load_ps(strip.add(k * STRIP));
            let w1 = _mm512_load_ps(strip.add(k * STRIP + 16));
            for (r, chains) in chains.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*x.add(r * X_STRIDE + k));
                chains[0] = _mm512_fmadd_ps(x, w0, chains[0]);
                chains[1] = _mm512_fmadd_ps(x, w1, chains[1]);
            }
        }
        for (r, chains) in chains.iter().enumerate() {
            let tile = c.tile.add(r * c.stride);
            _mm512_mask_storeu_ps(tile, c.masks[0], chains[0]);
            _mm512_mask_storeu_ps(tile.wrapping_add(16), c.masks[1], chains[1]);
        }
    }
    M
}
