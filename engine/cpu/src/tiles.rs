//! Cuts a product into panels of weight rows and hands them to the instruction sets.
//!
//! Every kernel computes one panel: dot products of some weight rows with some activation rows,
//! written as a small dense tile. The operation's epilogue (bias, add, gate) then moves the tile
//! into the output. How a product is cut never shows in the result.

use crate::isa::Isa;
use crate::kernels::{Class, Kernels};
use crate::matrix::{Matrix, Rows};
use crate::panel::{Ahead, DIRECT_ROWS_MAX, GEMM_N, GEMM_WORK, Panel, STEP_WORK};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};
use crate::{portable, q8, reference};
use std::time::Instant;

/// Finished dot products of `N` weight matrices with the same activation rows.
///
/// Shapes: each of `dots` (rows, cols), dense; `col0` is a row of row block `block`.
pub(crate) struct Tile<'a, const N: usize> {
    pub(crate) block: usize,
    pub(crate) row0: usize,
    pub(crate) rows: usize,
    pub(crate) col0: usize,
    pub(crate) cols: usize,
    pub(crate) dots: [&'a [f32]; N],
}

/// Sizes of the panels of a row block.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Weight rows of a panel.
    wn: usize,
    /// Weight rows that a task is a multiple of, as far as there are any.
    grain: usize,
    /// Activation rows of a panel.
    xn: usize,
    /// Floats of work memory that a panel needs.
    work: usize,
}

/// Weight rows that one worker claims together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task {
    block: usize,
    first: usize,
    count: usize,
}

/// Bytes of weights that a task of a step reads: a long stretch of memory while much is left, at
/// last little, so that no thread waits long for another. Every task begins with a wait, and with
/// the walk to a huge page that another thread has read the rest of: where memory is fast (75 GB/s
/// by two threads), tasks of 2 MiB are 7 to 9 % faster than of 512 KiB, which are 4 to 8 % faster
/// than of 256 KiB.
const STEP_TASK_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(16 << 20);
/// Share of what is left that all threads claim at once.
const STEP_TASK_SHARE: (usize, usize) = (2, 3);
/// Floats of unpacked weights of a chunk: 384 KiB, which leave room in L2 for activations.
const UNPACKED_FLOATS: usize = 96 << 10;

impl Plan {
    /// Of one of `together` matrices, whose panels alternate. Each is a stretch of memory of its
    /// own, so they are longer than those that follow each other: half a megabyte of a matrix is
    /// 3 % faster than 64 KiB, at 36 GB/s of a thread.
    fn new(class: Class, w: &Matrix<'_>, together: usize, (rows, threads): (usize, usize)) -> Self {
        let groups = w.cols().div_ceil(q8::GROUP);
        // unpacked: at most ten vectors per group and row, and four chains per row
        let row_floats = groups * 160 + 64;
        let quantised = w.ty().is_quantised();
        let (wn, xn, work) = match class {
            Class::Step if quantised && rows > DIRECT_ROWS_MAX => (12, 16, 12 * row_floats),
            Class::Step => (32 * together, 16, STEP_WORK),
            Class::Chunk if quantised => {
                let fit = (UNPACKED_FLOATS / row_floats / 12).clamp(1, 8) * 12;
                (fit, 256, fit * row_floats)
            }
            Class::Chunk => (GEMM_N, 504, GEMM_WORK),
        };
        let fair = w.rows().div_ceil(threads * 2).next_multiple_of(4);
        let least = STEP_TASK_BYTES.start() * together / w.row_bytes();
        let grain = match class {
            Class::Step => wn.min(least.next_multiple_of(4).max(4)),
            Class::Chunk => wn.min(fair),
        };
        let is_long = class == Class::Step && together > 1 && rows <= DIRECT_ROWS_MAX;
        let wn = if is_long { grain * 8 } else { grain };
        let xn = rows.div_ceil(rows.div_ceil(xn).max(1)).max(1);
        Self {
            wn,
            grain,
            xn,
            work: work.max(w.cols()),
        }
    }

    /// A plan that fits the types of two matrices.
    fn common(self, other: Self) -> Self {
        Self {
            wn: self.wn.min(other.wn),
            grain: self.grain.min(other.grain),
            xn: self.xn.min(other.xn),
            work: self.work.max(other.work),
        }
    }
}

/// Cuts row blocks of (weight rows, bytes of a row, rows of a grain) into tasks, in order. Those of
/// a step become shorter towards the end.
fn tasks(class: Class, blocks: &[(usize, usize, usize)], threads: usize) -> Vec<Task> {
    let mut left: usize = blocks.iter().map(|(rows, bytes, _)| rows * bytes).sum();
    let (least, most) = STEP_TASK_BYTES.into_inner();
    let mut tasks = Vec::new();
    for (block, &(rows, bytes, grain)) in blocks.iter().enumerate() {
        let mut first = 0;
        while first < rows {
            let wanted = match class {
                Class::Step => {
                    let (part, whole) = STEP_TASK_SHARE;
                    (left * part / (whole * threads)).clamp(least, most) / bytes
                }
                Class::Chunk => grain,
            };
            let count = wanted.max(1).next_multiple_of(grain).min(rows - first);
            tasks.push(Task {
                block,
                first,
                count,
            });
            first += count;
            left -= count * bytes;
        }
    }
    tasks
}

impl Kernels {
    /// Computes all dot products of some row blocks, each of `N` matrices, and hands them to `emit`
    /// tile by tile, from many threads.
    pub(crate) fn for_tiles<const N: usize>(
        &self,
        class: Class,
        blocks: &[[&Matrix<'_>; N]],
        x: &Rows<'_>,
        emit: impl Fn(&Tile<'_, N>) + Sync,
    ) {
        for ws in blocks {
            self.check(class, *ws, x);
        }
        if x.rows == 0 {
            return;
        }
        let threads = self.pool.threads();
        let plan = |ws: &[&Matrix<'_>; N]| {
            let plans = ws.iter().map(|w| Plan::new(class, w, N, (x.rows, threads)));
            plans.reduce(Plan::common).expect("at least one matrix")
        };
        let plans: Vec<Plan> = blocks.iter().map(plan).collect();
        let sizes = blocks.iter().zip(&plans).map(|(ws, plan)| {
            let bytes = ws.iter().map(|w| w.row_bytes()).sum();
            (ws[0].rows(), bytes, plan.grain)
        });
        let sizes: Vec<(usize, usize, usize)> = sizes.collect();
        let tasks = tasks(class, &sizes, threads);
        let start = Instant::now();
        self.pool.run(tasks.len(), |index, worker| {
            let task = tasks[index];
            let (ws, plan) = (blocks[task.block], plans[task.block]);
            self.task(class, task, (ws, plan), x, worker, &emit);
        });
        if class == Class::Step {
            let bytes = sizes.iter().map(|(rows, bytes, _)| rows * bytes).sum();
            self.pace.note(bytes, threads, start.elapsed());
        }
    }

    /// The panels of one task.
    fn task<const N: usize>(
        &self,
        class: Class,
        task: Task,
        (ws, plan): ([&Matrix<'_>; N], Plan),
        x: &Rows<'_>,
        worker: usize,
        emit: &impl Fn(&Tile<'_, N>),
    ) {
        let ahead = self.pace.ahead();
        let mut scratch = self.scratch(worker);
        let tile_floats = (plan.wn * plan.xn).next_multiple_of(16);
        let floats = scratch.floats(N * tile_floats + plan.work);
        let (tiles, work) = floats.split_at_mut(N * tile_floats);
        let end = task.first + task.count;
        for w0 in (task.first..end).step_by(plan.wn) {
            let wn = plan.wn.min(end - w0);
            for x0 in (0..x.rows).step_by(plan.xn) {
                let xn = plan.xn.min(x.rows - x0);
                for (n, tile) in tiles.chunks_exact_mut(tile_floats).enumerate() {
                    let w = ws[n];
                    // The same rows of the next matrix, or the next rows of the first.
                    let next = match ws.get(n + 1) {
                        Some(next) => Some(next.row(w0)),
                        None if w0 + wn < end => Some(ws[0].row(w0 + wn)),
                        None => None,
                    };
                    let bytes = &w.bytes()[w0 * w.row_bytes()..][..wn * w.row_bytes()];
                    let panel = Panel {
                        class,
                        w,
                        w0,
                        wn,
                        x,
                        x0,
                        xn,
                        prefetches: self.prefetches,
                        ahead: Ahead::new(ahead, bytes, next),
                    };
                    run_panel(self.isa, &panel, &mut tile[..xn * wn], work);
                }
                let dots = std::array::from_fn(|n| &tiles[n * tile_floats..][..xn * wn]);
                emit(&Tile {
                    block: task.block,
                    row0: x0,
                    rows: xn,
                    col0: w0,
                    cols: wn,
                    dots,
                });
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_row_once_and_end_short() {
        let blocks = [
            (2500, 2176, 28),
            (0, 2176, 28),
            (7, 8704, 4),
            (2048, 8704, 8),
        ];
        for class in [Class::Step, Class::Chunk] {
            for threads in [1, 2, 7] {
                let tasks = tasks(class, &blocks, threads);
                for (block, &(rows, ..)) in blocks.iter().enumerate() {
                    let mine = tasks.iter().filter(|task| task.block == block);
                    let end = mine.fold(0, |end, task| {
                        assert!(task.first == end && task.count > 0);
                        end + task.count
                    });
                    assert_eq!(end, rows, "{class:?}");
                }
                let bytes = |task: &Task| task.count * blocks[task.block].1;
                let last = tasks.last().map(bytes);
                assert!(last <= Some(STEP_TASK_BYTES.start() + 8 * 8704));
                let longest = tasks.iter().map(bytes).max();
                assert!(longest <= Some(STEP_TASK_BYTES.end() + 28 * 2176));
            }
        }
    }
}
