//! Dot products along float rows, for steps.
//!
//! Element i goes to lane i mod 16 of chain i / 16 mod 2, whatever the number of rows. One
//! activation row walks memory linearly, one weight row after the other. More rows share loads:
//! tiles of `W` × `X` dot products over spans of columns that stay in L1, while the next weight
//! rows are prefetched into L2 in linear order, because several streams at once are slower than
//! one.

use super::lanes::{self, elem_bytes, first_lanes};
use super::{F16, F32};
use crate::kernels::Class;
use crate::panel::{Ahead, Panel};
use core::arch::x86_64::*;

/// Weight rows of a tile.
const W: usize = 3;
/// Activation rows of a tile.
const X: usize = 4;
/// Columns of a span.
const SPAN: usize = 512;
/// Bytes from a load of a single F32 row to the line that is prefetched into L2 with it, on CPUs
/// where streams are not prefetched further ahead.
const AHEAD: usize = 2048;
/// Floats of work memory: two chains of sixteen lanes per dot product of `W` weight rows.
const WORK: usize = W * Class::STEP_ROWS_MAX * 32;

const _: () = assert!(WORK <= crate::panel::STEP_WORK);

/// # Safety
/// As [`super::panel`]; `work` is 64-byte aligned.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn panel<const T: u8>(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    let cols = panel.w.cols();
    let x = panel.x.f32[panel.x0 * cols..].as_ptr();
    if panel.xn == 1 {
        for j in 0..panel.wn {
            let w = super::row_ptr(panel.w, panel.w0 + j);
            // SAFETY: both rows have `cols` elements.
            tile[j] = unsafe {
                if panel.prefetches {
                    dot::<T, true>(w, x, cols, panel.ahead)
                } else {
                    dot::<T, false>(w, x, cols, panel.ahead)
                }
            };
        }
        return;
    }
    assert!(
        work.len() >= WORK && panel.xn * W * 32 <= WORK,
        "room for the chains"
    );
    let mut j = 0;
    while j < panel.wn {
        let rows = Rows {
            w: super::row_ptr(panel.w, panel.w0 + j),
            x,
            xn: panel.xn,
            cols,
        };
        // SAFETY: `W` or the remaining weight rows exist, and so do `xn` activation rows.
        let done = unsafe {
            match panel.wn - j {
                1 => rows.multiply::<T, 1>(work.as_mut_ptr()),
                2 => rows.multiply::<T, 2>(work.as_mut_ptr()),
                _ => rows.multiply::<T, W>(work.as_mut_ptr()),
            }
        };
        let chains = work
            .as_chunks::<32>()
            .0
            .iter()
            .enumerate()
            .take(done * panel.xn);
        for (i, chains) in chains {
            // SAFETY: a pair of chains has 32 floats.
            let sum = unsafe {
                let even = _mm512_loadu_ps(chains.as_ptr());
                lanes::sum(_mm512_add_ps(
                    even,
                    _mm512_loadu_ps(chains.as_ptr().add(16)),
                ))
            };
            // chains lie as (activation row, weight row)
            tile[i / done * panel.wn + j + i % done] = sum;
        }
        j += done;
    }
}

/// Columns of one turn of [`dot`]: what keeps most loads in flight, as measured on Zen 4. Only F32
/// gains from prefetching there.
const fn unroll<const T: u8>() -> usize {
    match T {
        F32 => 64,
        F16 => 256,
        _ => 128,
    }
}

/// One weight row with one activation row.
///
/// # Safety
/// `w` has `cols` elements of type `T`, `x` has `cols` floats.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dot<const T: u8, const PREFETCHES: bool>(
    w: *const u8,
    x: *const f32,
    cols: usize,
    ahead: Ahead,
) -> f32 {
    let mut chains = [[[_mm512_setzero_ps(); 2]; 1]; 1];
    let (unrolled, whole) = (cols / unroll::<T>() * unroll::<T>(), cols / 32 * 32);
    // SAFETY: `whole` columns and the rest lie inside the rows; a prefetch never faults. On
    // Zen 4 none into L1: it takes the miss buffers from the loads and halves the speed.
    unsafe {
        for at in (0..unrolled).step_by(unroll::<T>()) {
            if PREFETCHES {
                let ahead = ahead.of(w.wrapping_add(at * elem_bytes::<T>()));
                for line in 0..unroll::<T>() * elem_bytes::<T>() / 64 {
                    _mm_prefetch::<_MM_HINT_NTA>(ahead.wrapping_add(64 * line).cast());
                }
            } else if T == F32 {
                for line in 0..unroll::<T>() / 16 {
                    let ahead = w.wrapping_add(at * 4 + line * 64 + AHEAD);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                }
            }
            for i in (0..unroll::<T>()).step_by(32) {
                chains = pair::<T, 1, 1>(w, 0, x, 0, at + i, chains);
            }
        }
        for at in (unrolled..whole).step_by(32) {
            chains = pair::<T, 1, 1>(w, 0, x, 0, at, chains);
        }
        chains = rest::<T, 1, 1>(w, 0, x, 0, whole..cols, chains);
    }
    let [[[even, odd]]] = chains;
    lanes::sum(_mm512_add_ps(even, odd))
}

/// Some weight rows and all activation rows of a step.
struct Rows {
    w: *const u8,
    x: *const f32,
    xn: usize,
    cols: usize,
}

impl Rows {
    /// Leaves the chains of `A` weight rows in `chains` (xn, A, 2, 16); returns `A`.
    ///
    /// # Safety
    /// The rows exist; `chains` has room and is 64-byte aligned.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn multiply<const T: u8, const A: usize>(&self, chains: *mut f32) -> usize {
        for first in (0..self.cols).step_by(SPAN) {
            let mut r = 0;
            while r < self.xn {
                // SAFETY: activation rows r.. exist, and their chains.
                unsafe {
                    let chains = chains.add(r * A * 32);
                    r += match self.xn - r {
                        1 => self.span::<T, A, 1>(first, r, chains),
                        2 => self.span::<T, A, 2>(first, r, chains),
                        3 => self.span::<T, A, 3>(first, r, chains),
                        _ => self.span::<T, A, X>(first, r, chains),
                    };
                }
            }
        }
        A
    }

    /// One span of columns of `A` weight rows with `B` activation rows; returns `B`.
    ///
    /// # Safety
    /// As `multiply`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn span<const T: u8, const A: usize, const B: usize>(
        &self,
        first: usize,
        r: usize,
        memory: *mut f32,
    ) -> usize {
        let size = elem_bytes::<T>();
        let row_bytes = self.cols * size;
        let mut chains = [[[_mm512_setzero_ps(); 2]; A]; B];
        let columns = SPAN.min(self.cols - first);
        let whole = columns / 32 * 32;
        // SAFETY: all columns of the span lie inside the rows; a prefetch never faults.
        unsafe {
            let w = self.w.add(first * size);
            let x = self.x.add(r * self.cols + first);
            let at = |b: usize, a: usize, half: usize| memory.add(((b * A + a) * 2 + half) * 16);
            if first > 0 {
                for b in 0..B {
                    for a in 0..A {
                        chains[b][a] = [_mm512_load_ps(at(b, a, 0)), _mm512_load_ps(at(b, a, 1))];
                    }
                }
            }
            let mut ahead = self.w.wrapping_add(A * (row_bytes + first * size));
            for i in (0..whole).step_by(32) {
                if r == 0 {
                    // as many bytes of the next rows as this pass reads of these
                    for line in 0..A * size / 2 {
                        _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line * 64).cast());
                    }
                    ahead = ahead.wrapping_add(A * size * 32);
                }
                chains = pair::<T, A, B>(w, row_bytes, x, self.cols, i, chains);
            }
            chains = rest::<T, A, B>(w, row_bytes, x, self.cols, whole..columns, chains);
            for b in 0..B {
                for a in 0..A {
                    _mm512_store_ps(at(b, a, 0), chains[b][a][0]);
                    _mm512_store_ps(at(b, a, 1), chains[b][a][1]);
                }
            }
        }
        B
    }
}

/// Thirty-two columns from `at` on.
///
/// # Safety
/// They exist in `A` weight rows `row_bytes` apart and `B` activation rows `ld` apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn pair<const T: u8, const A: usize, const B: usize>(
    w: *const u8,
    row_bytes: usize,
    x: *const f32,
    ld: usize,
    at: usize,
    mut chains: [[[__m512; 2]; A]; B],
) -> [[[__m512; 2]; A]; B] {
    for half in 0..2 {
        let i = at + half * 16;
        let mut weights = [_mm512_setzero_ps(); A];
        // SAFETY: the caller's.
        unsafe {
            for a in 0..A {
                weights[a] = lanes::load::<T>(w.add(a * row_bytes + i * elem_bytes::<T>()));
            }
            for b in 0..B {
                let x = _mm512_loadu_ps(x.add(b * ld + i));
                for a in 0..A {
                    chains[b][a][half] = _mm512_fmadd_ps(weights[a], x, chains[b][a][half]);
                }
            }
        }
    }
    chains
}

/// The columns that remain at the end of a row; the first of them is a multiple of 32.
///
/// # Safety
/// As [`pair`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn rest<const T: u8, const A: usize, const B: usize>(
    w: *const u8,
    row_bytes: usize,
    x: *const f32,
    ld: usize,
    columns: std::ops::Range<usize>,
    mut chains: [[[__m512; 2]; A]; B],
) -> [[[__m512; 2]; A]; B] {
    for i in columns.clone().step_by(16) {
        let mask = first_lanes(columns.end - i);
        let half = i / 16 % 2;
        // SAFETY: masked to the columns of the caller.
        unsafe {
            for a in 0..A {
                let w = w.add(a * row_bytes + i * elem_bytes::<T>());
                let w = lanes::load_masked::<T>(w, mask);
                for b in 0..B {
                    let x = _mm512_maskz_loadu_ps(mask, x.add(b * ld + i));
                    // both halves by constant index, or the chains would leave the registers
                    if half == 0 {
                        chains[b][a][0] = _mm512_fmadd_ps(w, x, chains[b][a][0]);
                    } else {
                        chains[b][a][1] = _mm512_fmadd_ps(w, x, chains[b][a][1]);
                    }
                }
            }
        }
    }
    chains
}
