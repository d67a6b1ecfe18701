//! Dot products along float rows: element i in lane i mod 8 of chain i / 8 mod 2.

use super::{BF16, F16, F32};
use crate::panel::Panel;
use core::arch::x86_64::*;

const fn elem_bytes<const T: u8>() -> usize {
    if T == F32 { 4 } else { 2 }
}

/// # Safety
/// As [`super::panel`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn panel<const T: u8>(panel: &Panel<'_>, tile: &mut [f32]) {
    let cols = panel.w.cols();
    for j in 0..panel.wn {
        let w = panel.w.row(panel.w0 + j);
        let mut r = 0;
        while r < panel.xn {
            let x = &panel.x.f32[(panel.x0 + r) * cols..];
            let out = &mut tile[r * panel.wn + j..];
            // SAFETY: `M` activation rows exist.
            r += unsafe {
                match panel.xn - r {
                    1 => dots::<T, 1>(w, x, out, panel.wn),
                    2 | 3 => dots::<T, 2>(w, x, out, panel.wn),
                    _ => dots::<T, 4>(w, x, out, panel.wn),
                }
            };
        }
    }
}

/// Eight elements as float32.
///
/// # Safety
/// `p` has 8 readable elements of type `T`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load<const T: u8>(p: *const u8) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        match T {
            F32 => _mm256_loadu_ps(p.cast()),
            F16 => _mm256_cvtph_ps(_mm_loadu_si128(p.cast())),
            BF16 => {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
            _ => unreachable!("three float types"),
        }
    }
}

/// One weight row with `M` activation rows; returns `M`.
///
/// # Safety
/// `x` has `M` rows of as many floats as `w` has elements.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dots<const T: u8, const M: usize>(
    w: &[u8],
    x: &[f32],
    out: &mut [f32],
    stride: usize,
) -> usize {
    let cols = w.len() / elem_bytes::<T>();
    let mut chains = [[_mm256_setzero_ps(); 2]; M];
    let whole = cols / 16 * 16;
    // the last columns, with zeros behind
    let mut w_rest = [0_u8; 64];
    let mut x_rest = [[0.0_f32; 16]; M];
    let bytes = &w[whole * elem_bytes::<T>()..];
    w_rest[..bytes.len()].copy_from_slice(bytes);
    for (r, rest) in x_rest.iter_mut().enumerate() {
        rest[..cols - whole].copy_from_slice(&x[r * cols + whole..][..cols - whole]);
    }
    // SAFETY: `whole` columns lie inside the rows, sixteen in the copies.
    unsafe {
        for at in (0..whole).step_by(16) {
            for half in 0..2 {
                let i = at + half * 8;
                let w = load::<T>(w.as_ptr().add(i * elem_bytes::<T>()));
                for r in 0..M {
                    let x = _mm256_loadu_ps(x.as_ptr().add(r * cols + i));
                    chains[r][half] = _mm256_fmadd_ps(w, x, chains[r][half]);
                }
            }
        }
        for half in 0..2 {
            let w = load::<T>(w_rest.as_ptr().add(half * 8 * elem_bytes::<T>()));
            for r in 0..M {
                let x = _mm256_loadu_ps(x_rest[r].as_ptr().add(half * 8));
                chains[r][half] = _mm256_fmadd_ps(w, x, chains[r][half]);
            }
        }
    }
    for (r, [even, odd]) in chains.into_iter().enumerate() {
        out[r * stride] = sum(_mm256_add_ps(even, odd));
    }
    M
}

/// Adds the lanes pairwise: halves, quarters, neighbours.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}
