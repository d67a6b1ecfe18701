//! Tiles of dot products from unpacked weight rows and quantised rows.
//!
//! A panel of weight rows is unpacked once into work memory (L2). Then four activation rows at a
//! time stay in L1 while tiles of `W` × 4 accumulators pass over the panel. Long rows are cut
//! into spans of [`SPAN`] groups; the float chains wait in memory between spans, which changes
//! no bit.

use super::lanes;
use super::unpack::{self, Format};
use crate::panel::Panel;
use crate::q8::{self, GROUP_BLOCKS, GROUP_BYTES, SCALES_AT, SUMS_AT};
use core::arch::x86_64::*;

/// Bytes of an unpacked group: eight vectors of weights, one of scales, one of minimums.
const UNPACKED: usize = 10 * 64;
/// Groups of a span: 20 KiB of four activation rows.
const SPAN: usize = 8;
/// Activation rows of a tile.
const X: usize = 4;
/// Weight rows of a tile.
const W: usize = 3;

/// # Safety
/// As [`super::panel`]; `work` is 64-byte aligned and has room for `wn` unpacked rows and
/// `wn` × 64 chains.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn panel<F: Format>(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    let groups = panel.w.cols() / 32;
    let groups = groups.div_ceil(GROUP_BLOCKS);
    let (chains, unpacked) = work.split_at_mut(panel.wn * X * 16);
    assert!(
        unpacked.len() * 4 >= panel.wn * groups * UNPACKED,
        "room for the unpacked panel"
    );
    let unpacked: *mut u8 = unpacked.as_mut_ptr().cast();
    let row_bytes = q8::row_bytes(panel.w.cols());
    let q8 = panel.x.q8.expect("checked by the caller");
    let pass = Pass {
        groups,
        w: unpacked,
        row_bytes,
        wn: panel.wn,
    };
    // SAFETY: the assertion above; activation rows x0..x0 + xn exist.
    unsafe {
        for j in 0..panel.wn {
            unpack_row::<F>(panel, panel.w0 + j, unpacked.add(j * groups * UNPACKED));
        }
        let mut r = 0;
        while r < panel.xn {
            let x = q8[(panel.x0 + r) * row_bytes..].as_ptr();
            let tile = &mut tile[r * panel.wn..];
            r += match panel.xn - r {
                1 => rows::<F, 1>(&pass, x, chains, tile),
                2 => rows::<F, 2>(&pass, x, chains, tile),
                3 => rows::<F, 3>(&pass, x, chains, tile),
                _ => rows::<F, X>(&pass, x, chains, tile),
            };
        }
    }
}

/// # Safety
/// `out` has room for the groups of a row.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn unpack_row<F: Format>(panel: &Panel<'_>, row: usize, out: *mut u8) {
    let blocks = panel.w.cols() / 32;
    let w = super::row_ptr(panel.w, row);
    let readable = panel.w.bytes().len() - row * panel.w.row_bytes();
    for (g, first) in (0..blocks).step_by(GROUP_BLOCKS).enumerate() {
        let at = g * F::STORED;
        // SAFETY: `tail` reads no further than the matrix; ten vectors per group are ours.
        unsafe {
            let left = blocks - first;
            let group = if left >= GROUP_BLOCKS {
                F::group(w.add(at), 0xffff)
            } else {
                unpack::tail::<F>(w.add(at), left, readable - at)
            };
            let out = out.add(g * UNPACKED);
            for (k, values) in group.values.iter().enumerate() {
                let plain = _mm512_mask_srli_epi32::<4>(*values, F::HIGH, *values);
                _mm512_store_si512(out.add(64 * k).cast(), plain);
            }
            _mm512_store_ps(out.add(512).cast(), group.scales);
            if F::MINIMUMS {
                _mm512_store_ps(out.add(576).cast(), group.minimums);
            }
        }
    }
}

/// The unpacked panel.
struct Pass {
    groups: usize,
    w: *const u8,
    /// Bytes of a quantised activation row.
    row_bytes: usize,
    wn: usize,
}

/// All weight rows of the panel with `R` activation rows; returns `R`.
///
/// # Safety
/// `x` has `R` quantised rows; `chains` has `wn` × `R` × 16 floats, aligned.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn rows<F: Format, const R: usize>(
    pass: &Pass,
    x: *const u8,
    chains: &mut [f32],
    tile: &mut [f32],
) -> usize {
    let chain: *mut f32 = chains.as_mut_ptr();
    for first in (0..pass.groups).step_by(SPAN) {
        let span = Span {
            first,
            count: SPAN.min(pass.groups - first),
        };
        let mut j = 0;
        while j < pass.wn {
            // SAFETY: weight rows j.. exist, and their chains.
            unsafe {
                let chain = chain.add(j * R * 16);
                j += match pass.wn - j {
                    1 => multiply::<F, 1, R>(pass, span, j, x, chain),
                    2 => multiply::<F, 2, R>(pass, span, j, x, chain),
                    _ => multiply::<F, W, R>(pass, span, j, x, chain),
                };
            }
        }
    }
    let vectors = pass.wn * R;
    for first in (0..vectors).step_by(16) {
        // SAFETY: lanes at or beyond `vectors` repeat the last one.
        let sums = unsafe {
            let load = |i: usize| _mm512_load_ps(chain.add((first + i).min(vectors - 1) * 16));
            lanes::sums(std::array::from_fn(load))
        };
        let mut out = [0.0; 16];
        // SAFETY: room for 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
        for (i, sum) in out.into_iter().enumerate().take(vectors - first) {
            let (j, r) = ((first + i) / R, (first + i) % R);
            tile[r * pass.wn + j] = sum;
        }
    }
    R
}

/// Groups `first..first + count`.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    count: usize,
}

/// One span of `A` weight rows with `R` activation rows; returns `A`.
///
/// # Safety
/// As [`rows`]; weight rows `j..j + A` exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn multiply<F: Format, const A: usize, const R: usize>(
    pass: &Pass,
    span: Span,
    j: usize,
    x: *const u8,
    chain: *mut f32,
) -> usize {
    let mut chains = [[_mm512_setzero_ps(); R]; A];
    // SAFETY: all groups of the span lie inside the rows; chains are A × R × 16 floats.
    unsafe {
        if span.first > 0 {
            for a in 0..A {
                for r in 0..R {
                    chains[a][r] = _mm512_load_ps(chain.add((a * R + r) * 16));
                }
            }
        }
        for g in span.first..span.first + span.count {
            let w: [*const u8; A] =
                std::array::from_fn(|a| pass.w.add(((j + a) * pass.groups + g) * UNPACKED));
            let x: [*const u8; R] =
                std::array::from_fn(|r| x.add(r * pass.row_bytes + g * GROUP_BYTES));
            let mut sums = [[_mm512_setzero_si512(); R]; A];
            if !F::MINIMUMS {
                for sums in &mut sums {
                    for r in 0..R {
                        sums[r] = _mm512_load_si512(x[r].add(SUMS_AT).cast());
                    }
                }
            }
            for k in 0..8 {
                let mut values = [_mm512_setzero_si512(); A];
                for a in 0..A {
                    values[a] = _mm512_load_si512(w[a].add(64 * k).cast());
                }
                for r in 0..R {
                    let x = _mm512_load_si512(x[r].add(64 * k).cast());
                    for a in 0..A {
                        sums[a][r] = _mm512_dpbusd_epi32(sums[a][r], values[a], x);
                    }
                }
            }
            for a in 0..A {
                let scales = _mm512_load_ps(w[a].add(512).cast());
                for r in 0..R {
                    let scales = _mm512_mul_ps(scales, _mm512_load_ps(x[r].add(SCALES_AT).cast()));
                    let sums = _mm512_cvtepi32_ps(sums[a][r]);
                    chains[a][r] = _mm512_fmadd_ps(sums, scales, chains[a][r]);
                    if F::MINIMUMS {
                        let minimums = _mm512_load_ps(w[a].add(576).cast());
                        let scales = _mm512_load_ps(x[r].add(SCALES_AT).cast());
                        let sums = _mm512_cvtepi32_ps(_mm512_load_si512(x[r].add(SUMS_AT).cast()));
                        let factors = _mm512_mul_ps(minimums, scales);
                        chains[a][r] = _mm512_fmadd_ps(sums, factors, chains[a][r]);
                    }
                }
            }
        }
        for a in 0..A {
            for r in 0..R {
                _mm512_store_ps(chain.add((a * R + r) * 16), chains[a][r]);
            }
        }
    }
    A
}
