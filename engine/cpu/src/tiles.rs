//! Cuts a product into panels of weight rows and hands them to the instruction sets.
//!
//! Every kernel computes one panel: dot products of some weight rows with some activation rows,
//! written as a small dense tile. The operation's epilogue (bias, add, gate) then moves the tile
//! into the output. How a product is cut never shows in the result.

use crate::isa::Isa;
use crate::kernels::{Class, Kernels};
use crate::matrix::{Matrix, Rows};
use crate::panel::{Ahead, DIRECT_ROWS_MAX, GEMM_N, GEMM_WORK, Panel, STEP_WORK};
use crate::scratch::Scratch;
use crate::shares::{Shares, Taken};
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
    /// Weight rows that a panel is a multiple of, as far as there are any.
    grain: usize,
    /// Activation rows of a panel.
    xn: usize,
    /// Floats of work memory that a panel needs.
    work: usize,
}

/// Weight rows that one worker multiplies together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Strip {
    block: usize,
    first: usize,
    count: usize,
}

/// A row block, whose grains are units of work.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The first of its grains, and how many it has.
    unit0: usize,
    units: usize,
    rows: usize,
    /// Bytes of a row of all its matrices.
    row_bytes: usize,
    plan: Plan,
}

/// What of the weights a thread multiplies at once.
struct Part<'a> {
    class: Class,
    strip: Strip,
    plan: Plan,
    /// The weights that are read behind it, if they are known.
    next: Option<&'a [u8]>,
}

/// Bytes of weights that a thread of a step takes at least: what another one waits for at the end.
const STEP_GRAIN_BYTES: usize = 64 << 10;
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
        let fair = w.rows().div_ceil(threads * 2).next_multiple_of(4).max(4);
        let least = STEP_GRAIN_BYTES * together / w.row_bytes();
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

    /// Grains of a panel.
    fn grains(&self) -> usize {
        self.wn / self.grain
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

/// Row blocks of (weight rows, bytes of a row of all matrices, plan) that follow each other.
fn cut(blocks: impl Iterator<Item = (usize, usize, Plan)>) -> Vec<Block> {
    let mut end = 0;
    let block = |(rows, row_bytes, plan): (usize, usize, Plan)| {
        let (unit0, units) = (end, rows.div_ceil(plan.grain));
        end += units;
        Block {
            unit0,
            units,
            rows,
            row_bytes,
            plan,
        }
    };
    blocks.map(block).collect()
}

/// Ends of one stretch of units for each thread, equal in bytes.
fn ends(blocks: &[Block], threads: usize) -> impl Iterator<Item = usize> {
    let bytes = |block: &Block| block.units * block.plan.grain * block.row_bytes;
    let total: usize = blocks.iter().map(bytes).sum();
    (1..=threads).map(move |thread| {
        let mut left = total * thread / threads;
        let mut end = 0;
        for block in blocks {
            let units = left / (block.plan.grain * block.row_bytes).max(1);
            end = block.unit0 + units.min(block.units);
            if units < block.units {
                break;
            }
            left -= bytes(block);
        }
        end
    })
}

/// The panels that one thread multiplies: its stretch, and what it takes from others.
struct Panels<'a> {
    blocks: &'a [Block],
    shares: &'a Shares,
    mine: usize,
    taken: Taken,
}

impl<'a> Panels<'a> {
    fn new(blocks: &'a [Block], shares: &'a Shares, mine: usize) -> Self {
        Self {
            blocks,
            shares,
            mine,
            taken: Taken::default(),
        }
    }

    /// The row block of a unit, and the weight row that the unit begins at.
    fn place(&self, unit: usize) -> (usize, usize) {
        let block = self.blocks.partition_point(|block| block.unit0 <= unit) - 1;
        let first = (unit - self.blocks[block].unit0) * self.blocks[block].plan.grain;
        (block, first)
    }
}

impl Iterator for Panels<'_> {
    /// A panel, and the block and row behind it, if it is known to come next.
    type Item = (Strip, Option<(usize, usize)>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.taken.units.is_empty() {
            self.taken = self.shares.take(self.mine)?;
        }
        let Taken { units, goes_on } = self.taken.clone();
        let (block, first) = self.place(units.start);
        let Block {
            unit0,
            units: all,
            rows,
            plan,
            ..
        } = self.blocks[block];
        let end = units.end.min(unit0 + all).min(units.start + plan.grains());
        let count = ((end - units.start) * plan.grain).min(rows - first);
        let behind = (end < units.end || goes_on).then(|| self.place(end));
        self.taken.units.start = end;
        Some((
            Strip {
                block,
                first,
                count,
            },
            behind,
        ))
    }
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
        let cuts = cut(blocks.iter().map(|ws| {
            let row_bytes = ws.iter().map(|w| w.row_bytes()).sum();
            (ws[0].rows(), row_bytes, plan(ws))
        }));
        let shares = Shares::new(ends(&cuts, threads));
        let start = Instant::now();
        self.pool.run(threads, |mine, worker| {
            let mut scratch = self.scratch(worker);
            for (strip, behind) in Panels::new(&cuts, &shares, mine) {
                let ws = blocks[strip.block];
                let next = behind.map(|(block, row)| blocks[block][0].row(row));
                let part = Part {
                    class,
                    strip,
                    plan: cuts[strip.block].plan,
                    next,
                };
                self.part(&part, ws, x, &mut scratch, &emit);
            }
        });
        if class == Class::Step {
            let bytes = cuts.iter().map(|block| block.rows * block.row_bytes).sum();
            self.pace.note(bytes, threads, start.elapsed());
        }
    }

    /// The panels of one strip, of all matrices and activation rows.
    fn part<const N: usize>(
        &self,
        part: &Part<'_>,
        ws: [&Matrix<'_>; N],
        x: &Rows<'_>,
        scratch: &mut Scratch,
        emit: &impl Fn(&Tile<'_, N>),
    ) {
        let Part {
            class,
            strip,
            plan,
            next,
        } = *part;
        let ahead = self.pace.ahead();
        let tile_floats = (plan.wn * plan.xn).next_multiple_of(16);
        let floats = scratch.floats(N * tile_floats + plan.work);
        let (tiles, work) = floats.split_at_mut(N * tile_floats);
        let (w0, wn) = (strip.first, strip.count);
        for x0 in (0..x.rows).step_by(plan.xn) {
            let xn = plan.xn.min(x.rows - x0);
            for (n, tile) in tiles.chunks_exact_mut(tile_floats).enumerate() {
                let w = ws[n];
                // The same rows of the next matrix, or what comes behind all.
                let next = ws.get(n + 1).map(|w| w.row(w0)).or(next);
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
                block: strip.block,
                row0: x0,
                rows: xn,
                col0: w0,
                cols: wn,
                dots,
            });
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
    fn panels_cover_every_row_once() {
        for class in [Class::Step, Class::Chunk] {
            for threads in [1, 2, 7] {
                let plan = |wn, grain| Plan {
                    wn,
                    grain,
                    xn: 1,
                    work: 0,
                };
                let blocks = [
                    (2500, 2176, plan(28, 28)),
                    (0, 2176, plan(28, 28)),
                    (7, 8704, plan(32, 4)),
                    (2048, 8704, plan(64, 8)),
                ];
                let blocks = cut(blocks.into_iter());
                let shares = Shares::new(ends(&blocks, threads));
                let mut seen: Vec<Vec<u32>> =
                    blocks.iter().map(|block| vec![0; block.rows]).collect();
                for mine in 0..threads {
                    for (strip, _) in Panels::new(&blocks, &shares, mine) {
                        assert!(strip.count <= blocks[strip.block].plan.wn, "{class:?}");
                        for row in &mut seen[strip.block][strip.first..][..strip.count] {
                            *row += 1;
                        }
                    }
                }
                assert!(seen.into_iter().flatten().all(|times| times == 1));
            }
        }
    }

    #[test]
    fn stretches_have_equal_bytes() {
        let plan = Plan {
            wn: 4,
            grain: 4,
            xn: 1,
            work: 0,
        };
        let blocks = [(400, 1000, plan), (200, 2000, plan), (400, 1000, plan)];
        let blocks = cut(blocks.into_iter());
        assert_eq!(ends(&blocks, 3).collect::<Vec<_>>(), [100, 150, 250]);
        assert_eq!(ends(&blocks, 2).collect::<Vec<_>>(), [125, 250]);
        assert_eq!(ends(&blocks[..0], 2).collect::<Vec<_>>(), [0, 0]);
    }
}
