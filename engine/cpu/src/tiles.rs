//! Cuts a product into panels of weight rows and hands them to the instruction sets.
//!
//! Every kernel computes one panel: dot products of some weight rows with some activation rows,
//! written as a small dense tile. The operation's epilogue (bias, add, gate) then moves the tile
//! into the output. How a product is cut never shows in the result.

use crate::isa::Isa;
use crate::kernels::{Class, Kernels};
use crate::matrix::{Matrix, Rows};
use crate::panel::{DIRECT_ROWS_MAX, GEMM_N, GEMM_WORK, Panel, STEP_WORK};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};
use crate::{portable, q8, reference};

/// Finished dot products of `N` weight matrices with the same activation rows.
///
/// Shapes: each of `dots` (rows, cols), dense.
pub(crate) struct Tile<'a, const N: usize> {
    pub(crate) row0: usize,
    pub(crate) rows: usize,
    pub(crate) col0: usize,
    pub(crate) cols: usize,
    pub(crate) dots: [&'a [f32]; N],
}

/// Sizes of panels and tasks.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Weight rows of a panel.
    wn: usize,
    /// Weight rows of a task: a multiple of `wn`, or all.
    task: usize,
    /// Activation rows of a panel.
    xn: usize,
    /// Floats of work memory that a panel needs.
    work: usize,
}

/// Bytes of weights that a task of a step reads at least, so that claiming it costs nothing.
const STEP_TASK_BYTES: usize = 128 << 10;
/// Floats of unpacked weights of a chunk: 384 KiB, which leave room in L2 for activations.
const UNPACKED_FLOATS: usize = 96 << 10;
impl Plan {
    fn new(class: Class, w: &Matrix<'_>, rows: usize, threads: usize) -> Self {
        let groups = w.cols().div_ceil(q8::GROUP);
        // unpacked: at most ten vectors per group and row, and four chains per row
        let row_floats = groups * 160 + 64;
        let quantised = w.ty().is_quantised();
        let (wn, xn, work) = match class {
            Class::Step if quantised && rows > DIRECT_ROWS_MAX => (12, 16, 12 * row_floats),
            Class::Step => (32, 16, STEP_WORK),
            Class::Chunk if quantised => {
                let fit = (UNPACKED_FLOATS / row_floats / 12).clamp(1, 8) * 12;
                (fit, 256, fit * row_floats)
            }
            Class::Chunk => (GEMM_N, 504, GEMM_WORK),
        };
        let fair = w.rows().div_ceil(threads * 2).next_multiple_of(4);
        let wn = wn.min(fair);
        let task = match class {
            Class::Step => (STEP_TASK_BYTES / w.row_bytes())
                .clamp(1, fair)
                .next_multiple_of(wn),
            Class::Chunk => wn,
        };
        let xn = rows.div_ceil(rows.div_ceil(xn).max(1)).max(1);
        Self {
            wn,
            task,
            xn,
            work: work.max(w.cols()),
        }
    }

    /// A plan that fits the types of two matrices.
    fn common(self, other: Self) -> Self {
        let wn = self.wn.min(other.wn);
        Self {
            wn,
            task: self.task.min(other.task).next_multiple_of(wn),
            xn: self.xn.min(other.xn),
            work: self.work.max(other.work),
        }
    }
}

impl Kernels {
    /// Computes all dot products and hands them to `emit` tile by tile, from many threads.
    pub(crate) fn for_tiles<const N: usize>(
        &self,
        class: Class,
        ws: [&Matrix<'_>; N],
        x: &Rows<'_>,
        emit: impl Fn(&Tile<'_, N>) + Sync,
    ) {
        let w = ws[0];
        self.check(class, ws, x);
        if x.rows == 0 || w.rows() == 0 {
            return;
        }
        let plan = ws
            .into_iter()
            .map(|w| Plan::new(class, w, x.rows, self.pool.threads()))
            .reduce(Plan::common)
            .expect("at least one matrix");
        self.for_ranges(w.rows(), plan.task, |first, count, worker| {
            let mut scratch = self.scratch(worker);
            let tile_floats = (plan.wn * plan.xn).next_multiple_of(16);
            let floats = scratch.floats(N * tile_floats + plan.work);
            let (tiles, work) = floats.split_at_mut(N * tile_floats);
            for w0 in (first..first + count).step_by(plan.wn) {
                let wn = plan.wn.min(first + count - w0);
                for x0 in (0..x.rows).step_by(plan.xn) {
                    let xn = plan.xn.min(x.rows - x0);
                    for (tile, w) in tiles.chunks_exact_mut(tile_floats).zip(ws) {
                        let panel = Panel {
                            class,
                            w,
                            w0,
                            wn,
                            x,
                            x0,
                            xn,
                        };
                        run_panel(self.isa, &panel, &mut tile[..xn * wn], work);
                    }
                    let dots = std::array::from_fn(|n| &tiles[n * tile_floats..][..xn * wn]);
                    emit(&Tile {
                        row0: x0,
                        rows: xn,
                        col0: w0,
                        cols: wn,
                        dots,
                    });
                }
            }
        });
    }

    fn check<const N: usize>(&self, class: Class, ws: [&Matrix<'_>; N], x: &Rows<'_>) {
        if class == Class::Step {
            assert!(
                x.rows <= Class::STEP_ROWS_MAX,
                "{} rows in one step, at most 16",
                x.rows
            );
        }
        let cols = x.cols;
        assert_eq!(
            x.f32.len(),
            x.rows * cols,
            "elements of {} activation rows",
            x.rows
        );
        for w in ws {
            assert_eq!(
                w.cols(),
                cols,
                "columns of the weights and of the activations"
            );
            assert_eq!(w.rows(), ws[0].rows(), "rows of the two weight matrices");
            if self.quantises(class, w.ty()) {
                let q8 =
                    x.q8.expect("weights of this type need quantised activations");
                let row_bytes = q8::row_bytes(cols);
                assert_eq!(
                    q8.len(),
                    x.rows * row_bytes,
                    "bytes of {} quantised rows",
                    x.rows
                );
                q8::assert_aligned(q8);
            }
        }
    }
}

/// Writes the dot products of `panel` to `tile` (xn, wn).
fn run_panel(isa: Isa, panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    match isa {
        Isa::Reference => reference::matmul::panel(panel, tile, work),
        Isa::Portable => portable::matmul::panel(panel, tile, work),
        // SAFETY: `Kernels::new` checked the CPU's flags, `Kernels::check` the shapes.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::panel(panel, tile) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::panel(panel, tile, work) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => unreachable!("`Kernels::new` refuses it"),
    }
}
