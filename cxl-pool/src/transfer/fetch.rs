//! A fetch: a block is read from the files of a tier into an extent, checked and published.

use super::{Class, Cut, Place, Task};
use crate::block::BlockSpec;
use crate::checksum::{BlockSums, Mismatch, RunCheck, SumStore, run_checks};
use crate::units::BlockId;
use larder_sys::io::Verb;
use larder_sys::lease::{Cutter, FillLease, FillPiece, ReadLease};
use larder_sys::slot::PartRange;
use smallvec::SmallVec;
use std::sync::Arc;

/// A fetch that is asked for.
#[derive(Debug)]
pub struct Want {
    pub block: BlockId,
    pub spec: Arc<BlockSpec>,
    pub class: Class,
    /// Order of use among the wants of a class: smaller is needed sooner.
    pub due: u64,
    /// The target: an extent of at least the block's extent bytes.
    pub fill: FillLease,
    /// Checksums are kept: `false` for gathered rows, which no later read repeats as a block.
    pub is_checked: bool,
    /// The replica that is read, where it could be evicted meanwhile.
    pub pinned: Option<ReadLease>,
}

/// A piece that has arrived in memory.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) bytes: FillPiece,
    /// Where it goes from staging, if it does.
    pub(crate) target: Option<FillPiece>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Fetch {
    /// `None` once cancelled or failed: then only the pieces in flight keep the extent.
    pub(super) fill: Option<FillLease>,
    spec: Arc<BlockSpec>,
    /// Given up when the last piece is cut.
    cutter: Option<Cutter>,
    /// Run that is being cut, and how much of it has been.
    run: usize,
    run_cut: u64,
    checks: SmallVec<[RunCheck; 4]>,
    /// Known checksums; what was `None` is made by this fetch.
    sums: BlockSums,
    /// Pieces that arrived before their predecessors, with their places.
    early: Vec<(Place, Landed)>,
    /// Keeps the bytes where they are until the last piece is home.
    pinned: Option<ReadLease>,
}

impl Fetch {
    /// Starts a fetch that is compared with `known`.
    pub(crate) fn new(mut want: Want, known: &SumStore) -> Self {
        let (checks, sums) = if want.is_checked {
            let (checks, count) = run_checks(&want.spec);
            (checks, known.expected(want.block, count))
        } else {
            (SmallVec::new(), BlockSums::new())
        };
        let cutter = want.fill.cutter();
        assert!(
            cutter.left() >= want.spec.extent_bytes(),
            "the extent holds {}",
            want.block
        );
        Self {
            fill: Some(want.fill),
            spec: want.spec,
            cutter: Some(cutter),
            run: 0,
            run_cut: 0,
            checks,
            sums,
            early: Vec::new(),
            pinned: want.pinned,
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cutter.is_none()
    }

    pub(super) fn give_up(&mut self) -> Option<FillLease> {
        self.cutter = None;
        self.early.clear();
        self.fill.take()
    }

    /// Cuts the next piece of at most `most` bytes, front to back.
    pub(super) fn cut(&mut self, most: u64) -> Option<Cut> {
        let cutter = self.cutter.as_mut()?;
        let run = self.spec.runs[self.run];
        let left = run.aligned_len() - self.run_cut;
        let place = Place {
            run: self.run,
            at: self.run_cut,
        };
        let target = cutter.cut(left.min(most));
        self.run_cut += target.len() as u64;
        if self.run_cut == run.aligned_len() {
            (self.run, self.run_cut) = (self.run + 1, 0);
        }
        if self.run == self.spec.runs.len() {
            self.cutter = None;
        }
        let offset = run.aligned_offset() + place.at;
        Some(Cut {
            place,
            file: run.file,
            offset,
            task: Task::Drive(Verb::Read(target)),
        })
    }

    /// File of a run, for messages.
    pub(crate) fn file_of(&self, run: usize) -> u32 {
        self.spec.runs[run].file
    }

    /// Takes a piece that arrived whole; checks it and what waited for it, in order, and adds what
    /// has been checked to `passed`.
    pub(crate) fn arrived(
        &mut self,
        place: Place,
        landed: Landed,
        passed: &mut Vec<Landed>,
    ) -> Result<(), Mismatch> {
        if self.checks.is_empty() {
            passed.push(landed);
            return Ok(());
        }
        self.early.push((place, landed));
        let run = self.spec.runs[place.run];
        let check = &mut self.checks[place.run];
        loop {
            // The run starts behind its phase; the first piece begins with the bytes before it.
            let fed = check.fed();
            let next = if fed == 0 { 0 } else { fed + run.phase() };
            let wanted = Place {
                run: place.run,
                at: next,
            };
            let Some(index) = self.early.iter().position(|(place, _)| *place == wanted) else {
                return Ok(());
            };
            let (_, landed) = self.early.swap_remove(index);
            let skip = if fed == 0 { run.phase() } else { 0 };
            let bytes = landed.bytes.bytes();
            let end = (run.phase() + run.len - next).min(bytes.len() as u64);
            check.feed(&bytes[skip as usize..end as usize], &mut self.sums)?;
            passed.push(landed);
            if check.fed() == run.len {
                return Ok(());
            }
        }
    }

    /// Publishes the block: everything has arrived and was checked.
    pub(super) fn publish(self, block: BlockId, sums: &SumStore) {
        debug_assert!(self.is_cut(), "publish a complete fetch");
        if !self.checks.is_empty() {
            sums.keep_first(block, &self.sums);
        }
        let parts: SmallVec<[PartRange; 8]> = self
            .spec
            .parts
            .iter()
            .map(|part| {
                let run = usize::from(part.run);
                let start = self.spec.run_start(run) + self.spec.runs[run].phase();
                PartRange {
                    offset: start + part.offset,
                    len: part.len,
                }
            })
            .collect();
        // Whoever waits for the block may evict the replica that was read.
        drop(self.pinned);
        self.fill
            .expect("neither cancelled nor failed")
            .publish(parts);
    }
}
