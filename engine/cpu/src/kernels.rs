//! The facade: an instruction set, a pool, and one method per operation.

use crate::isa::{self, Isa, IsaError};
use crate::pace::Pace;
use crate::pool::Pool;
use crate::scratch::{SCRATCH_BYTES_MAX, Scratch};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which of the two families of kernels runs; they may sum in different orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Decode, batch, verification: at most [`Class::STEP_ROWS_MAX`] rows.
    Step,
    /// Prefill: any number of rows, even one.
    Chunk,
}

impl Class {
    /// Rows of the largest step; a larger batch is several steps.
    pub const STEP_ROWS_MAX: usize = 16;
}

/// Operations of a model graph on the CPU.
pub struct Kernels {
    pub(crate) isa: Isa,
    pub(crate) pool: Arc<Pool>,
    /// Streams of weights are prefetched.
    pub(crate) prefetches: bool,
    pub(crate) pace: Pace,
    /// One per worker; a worker runs one task at a time, so the locks are never contended.
    scratch: Vec<Mutex<Scratch>>,
}

impl Kernels {
    /// Fails with the missing CPU flags if this machine cannot run `isa`.
    pub fn new(isa: Isa, pool: Arc<Pool>) -> Result<Self, IsaError> {
        isa.check()?;
        let scratch = (0..pool.threads()).map(|_| Mutex::default()).collect();
        Ok(Self {
            isa,
            pool,
            prefetches: isa::gains_from_prefetch(),
            pace: Pace::default(),
            scratch,
        })
    }

    /// Instruction set that runs.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Worker pool that runs it.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Bytes of scratch that one thread allocates at most.
    pub const fn scratch_bytes_max() -> usize {
        SCRATCH_BYTES_MAX
    }

    pub(crate) fn scratch(&self, worker: usize) -> MutexGuard<'_, Scratch> {
        self.scratch[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `f(first, count)` for ranges of at most `grain` that cover `0..total`.
    pub(crate) fn for_ranges(
        &self,
        total: usize,
        grain: usize,
        f: impl Fn(usize, usize, usize) + Sync,
    ) {
        let grain = grain.max(1);
        self.pool.run(total.div_ceil(grain), |task, worker| {
            let first = task * grain;
            f(first, grain.min(total - first), worker);
        });
    }
}
