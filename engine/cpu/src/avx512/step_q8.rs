//! Dot products of quantised weight rows with a few quantised rows, unpacked in registers.
//!
//! Exact integer sums of sixteen blocks in the lanes of one register, one float chain per lane,
//! a fixed tree at the end: the same order as [`super::gemm_q8`].

use super::lanes;
use super::unpack::{self, Format, Group};
use crate::panel::{Ahead, Panel};
use crate::q8::{self, GROUP_BLOCKS, GROUP_BYTES, SCALES_AT, SUMS_AT};
use core::arch::x86_64::*;

/// Rows whose chains are added up together: one tree of sums for sixteen.
const TOGETHER: usize = 16;

/// Weight rows are walked one after the other: one stream of memory per thread.
///
/// # Safety
/// As [`super::panel`]; at most four activation rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn panel<F: Format>(panel: &Panel<'_>, tile: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        match (panel.xn, panel.prefetches) {
            (1, false) => rows::<F, 1, false>(panel, tile),
            (1, true) => rows::<F, 1, true>(panel, tile),
            (2, false) => rows::<F, 2, false>(panel, tile),
            (2, true) => rows::<F, 2, true>(panel, tile),
            (3, false) => rows::<F, 3, false>(panel, tile),
            (3, true) => rows::<F, 3, true>(panel, tile),
            (4, false) => rows::<F, 4, false>(panel, tile),
            (4, true) => rows::<F, 4, true>(panel, tile),
            (more, _) => unreachable!("{more} rows are unpacked into memory"),
        }
    }
}

/// All weight rows with `M` activation rows.
///
/// # Safety
/// As [`panel`]; the panel has `M` activation rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn rows<F: Format, const M: usize, const PREFETCHES: bool>(
    panel: &Panel<'_>,
    tile: &mut [f32],
) {
    let row_bytes = q8::row_bytes(panel.w.cols());
    let q8 = panel.x.q8.expect("checked by the caller");
    let x = q8[panel.x0 * row_bytes..].as_ptr();
    let mut chains = [[_mm512_setzero_ps(); TOGETHER]; M];
    for first in (0..panel.wn).step_by(TOGETHER) {
        let count = TOGETHER.min(panel.wn - first);
        for i in 0..count {
            let row = panel.w0 + first + i;
            let w = Row {
                bytes: super::row_ptr(panel.w, row),
                blocks: panel.w.cols() / 32,
                readable: panel.w.bytes().len() - row * panel.w.row_bytes(),
                ahead: panel.ahead,
            };
            // SAFETY: the row's blocks and `M` activation rows exist.
            let row = unsafe { dots::<F, M, PREFETCHES>(&w, x, row_bytes) };
            for (chains, chain) in chains.iter_mut().zip(row) {
                chains[i] = chain;
            }
        }
        for (r, chains) in chains.iter().enumerate() {
            let out = &mut tile[r * panel.wn + first..][..count];
            // SAFETY: the lanes of the mask are in `out`.
            unsafe {
                let sums = lanes::sums(*chains);
                _mm512_mask_storeu_ps(out.as_mut_ptr(), lanes::first_lanes(count), sums);
            }
        }
    }
}

/// One stored weight row.
struct Row {
    bytes: *const u8,
    blocks: usize,
    /// Bytes from the row's start to the end of the matrix.
    readable: usize,
    ahead: Ahead,
}

/// The chains of one weight row with `M` activation rows.
///
/// # Safety
/// `w` is as it says; `x` has `M` quantised rows of `row_bytes`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dots<F: Format, const M: usize, const PREFETCHES: bool>(
    w: &Row,
    x: *const u8,
    row_bytes: usize,
) -> [__m512; M] {
    let mut chains = [_mm512_setzero_ps(); M];
    let full = w.blocks / GROUP_BLOCKS;
    // SAFETY: full groups lie inside the row, `tail` cuts the last one; prefetches never fault.
    unsafe {
        for g in 0..full {
            if PREFETCHES {
                let ahead = w.ahead.of(w.bytes.wrapping_add(g * F::STORED));
                for line in 0..F::STORED.div_ceil(64) {
                    _mm_prefetch::<_MM_HINT_NTA>(ahead.wrapping_add(64 * line).cast());
                }
            }
            let weights = F::group(w.bytes.add(g * F::STORED), 0xffff);
            for (r, chain) in chains.iter_mut().enumerate() {
                *chain = multiply::<F>(&weights, x.add(r * row_bytes + g * GROUP_BYTES), *chain);
            }
        }
        let rest = w.blocks % GROUP_BLOCKS;
        if rest > 0 {
            let at = full * F::STORED;
            let weights = unpack::tail::<F>(w.bytes.add(at), rest, w.readable - at);
            for (r, chain) in chains.iter_mut().enumerate() {
                *chain = multiply::<F>(&weights, x.add(r * row_bytes + full * GROUP_BYTES), *chain);
            }
        }
    }
    chains
}

/// Adds the products of one group to the chains of its blocks.
///
/// # Safety
/// `x` is a quantised group, 64-byte aligned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn multiply<F: Format>(w: &Group, x: *const u8, chain: __m512) -> __m512 {
    // SAFETY: a group has 640 bytes.
    unsafe {
        let bias = _mm512_load_si512(x.add(SUMS_AT).cast());
        let scales = _mm512_load_ps(x.add(SCALES_AT).cast());
        let zero = _mm512_setzero_si512();
        // Two sums: the next group's products wait for half as long.
        let mut sums = [if F::MINIMUMS { zero } else { bias }, zero];
        for (k, w) in w.values.iter().enumerate() {
            let x = _mm512_load_si512(x.add(64 * k).cast());
            sums[k % 2] = _mm512_dpbusd_epi32(sums[k % 2], *w, x);
        }
        let sums = _mm512_add_epi32(sums[0], sums[1]);
        let sums = _mm512_mask_srai_epi32::<4>(sums, F::HIGH, sums);
        let factors = _mm512_mul_ps(w.scales, scales);
        let chain = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), factors, chain);
        if !F::MINIMUMS {
            return chain;
        }
        _mm512_fmadd_ps(
            _mm512_cvtepi32_ps(bias),
            _mm512_mul_ps(w.minimums, scales),
            chain,
        )
    }
}
