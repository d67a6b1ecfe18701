//! Dot products of quantised weight rows with a few quantised rows, unpacked in registers.
//!
//! Exact integer sums of sixteen blocks in the lanes of one register, one float chain per lane,
//! a fixed tree at the end: the same order as [`super::gemm_q8`].

use super::lanes;
use super::unpack::{self, Format, Group};
use crate::panel::{Ahead, Panel};
use crate::q8::{self, GROUP_BLOCKS, GROUP_BYTES, SCALES_AT, SUMS_AT};
use core::arch::x86_64::*;

/// Weight rows are walked one after the other: one stream of memory per thread.
///
/// # Safety
/// As [`super::panel`]; at most four activation rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn panel<F: Format>(panel: &Panel<'_>, tile: &mut [f32]) {
    let row_bytes = q8::row_bytes(panel.w.cols());
    let q8 = panel.x.q8.expect("checked by the caller");
    let x = q8[panel.x0 * row_bytes..].as_ptr();
    for j in 0..panel.wn {
        let row = panel.w0 + j;
        let blocks = panel.w.cols() / 32;
        let w = Row {
            bytes: super::row_ptr(panel.w, row),
            blocks,
            readable: panel.w.bytes().len() - row * panel.w.row_bytes(),
            ahead: panel.ahead,
        };
        let out = &mut tile[j..];
        // SAFETY: the row's blocks and `xn` activation rows exist.
        unsafe {
            match (panel.xn, panel.prefetches) {
                (1, false) => dots::<F, 1, false>(&w, x, row_bytes, out, panel.wn),
                (1, true) => dots::<F, 1, true>(&w, x, row_bytes, out, panel.wn),
                (2, false) => dots::<F, 2, false>(&w, x, row_bytes, out, panel.wn),
                (2, true) => dots::<F, 2, true>(&w, x, row_bytes, out, panel.wn),
                (3, false) => dots::<F, 3, false>(&w, x, row_bytes, out, panel.wn),
                (3, true) => dots::<F, 3, true>(&w, x, row_bytes, out, panel.wn),
                (4, false) => dots::<F, 4, false>(&w, x, row_bytes, out, panel.wn),
                (4, true) => dots::<F, 4, true>(&w, x, row_bytes, out, panel.wn),
                (more, _) => unreachable!("{more} rows are unpacked into memory"),
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

/// # Safety
/// `w` is as it says; `x` has `M` quantised rows of `row_bytes`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dots<F: Format, const M: usize, const PREFETCHES: bool>(
    w: &Row,
    x: *const u8,
    row_bytes: usize,
    out: &mut [f32],
    stride: usize,
) {
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
    for (r, chain) in chains.into_iter().enumerate() {
        out[r * stride] = lanes::sum(chain);
    }
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
        let mut sums = if F::MINIMUMS {
            _mm512_setzero_si512()
        } else {
            bias
        };
        for (k, w) in w.values.iter().enumerate() {
            sums = _mm512_dpbusd_epi32(sums, *w, _mm512_load_si512(x.add(64 * k).cast()));
        }
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
