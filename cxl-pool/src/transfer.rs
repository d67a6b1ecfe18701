//! One move of one block over one path: what is cut, in flight, checked and left to do.

use crate::block::BlockSpec;
use crate::checksum::{BlockSums, Mismatch, RunCheck, run_checks};
use crate::units::BlockId;
use larder_sys::file::FileError;
use larder_sys::io::Errno;
use larder_sys::lease::{Cutter, FillLease, FillPiece};
use larder_sys::slot::PartRange;
use smallvec::SmallVec;
use std::sync::Arc;

/// Urgency of a move, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A kernel waits for it.
    Demand,
    /// A coming step needs it.
    Prefetch,
    /// It has grown hot.
    Promote,
    /// It makes room.
    Demote,
}

/// Why a block could not be moved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MoveError {
    #[error("read {len} bytes of {file} at {offset}: {errno}")]
    Read {
        file: String,
        offset: u64,
        len: u64,
        errno: Errno,
    },
    #[error("read {len} bytes of {file} at {offset}: only {found} came; is the file truncated?")]
    Short {
        file: String,
        offset: u64,
        len: u64,
        found: u64,
    },
    #[error(transparent)]
    Changed(Arc<FileError>),
    #[error(
        "{block} of {file}: checksum of part {} is {:08x}, at the first read it was {:08x}",
        mismatch.part, mismatch.found, mismatch.expected
    )]
    Checksum {
        block: BlockId,
        file: String,
        mismatch: Mismatch,
    },
    #[error("the mover has stopped: {cause}")]
    Stopped { cause: String },
}

/// What the mover is asked for.
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
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) block: BlockId,
    pub(crate) class: Class,
    pub(crate) due: u64,
    /// `None` once cancelled or failed: then only the pieces in flight keep the extent.
    pub(crate) fill: Option<FillLease>,
    pub(crate) in_flight: usize,
    spec: Arc<BlockSpec>,
    /// Given up when the last piece is cut.
    cutter: Option<Cutter>,
    /// Run that is being cut, and how much of it has been.
    run: usize,
    run_cut: u64,
    checks: SmallVec<[RunCheck; 4]>,
    /// Pieces that arrived before their predecessors, with their places.
    early: Vec<(Place, FillPiece)>,
}

/// Where a piece belongs: a run, and the first byte counted from the run's aligned start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) run: usize,
    pub(crate) at: u64,
}

/// The next piece of a transfer: where it stands in the source and where it goes.
#[derive(Debug)]
pub(crate) struct CutPiece {
    pub(crate) place: Place,
    pub(crate) file: u32,
    /// First byte in the file, on a page.
    pub(crate) offset: u64,
    pub(crate) target: FillPiece,
}

impl Transfer {
    /// Starts a move; also says how many checksums its block has.
    pub(crate) fn new(mut want: Want) -> (Self, usize) {
        let (checks, count) = if want.is_checked {
            run_checks(&want.spec)
        } else {
            (SmallVec::new(), 0)
        };
        let cutter = want.fill.cutter();
        assert!(
            cutter.left() >= want.spec.extent_bytes(),
            "the extent holds {}",
            want.block
        );
        let transfer = Self {
            block: want.block,
            class: want.class,
            due: want.due,
            fill: Some(want.fill),
            in_flight: 0,
            spec: want.spec,
            cutter: Some(cutter),
            run: 0,
            run_cut: 0,
            checks,
            early: Vec::new(),
        };
        (transfer, count)
    }

    /// Every piece has been cut, or none will be any more.
    pub(crate) fn is_cut(&self) -> bool {
        self.cutter.is_none()
    }

    /// Stops cutting and lets the slot go; pieces in flight keep their extent.
    pub(crate) fn give_up(&mut self) -> Option<FillLease> {
        self.cutter = None;
        self.early.clear();
        self.fill.take()
    }

    /// Cuts the next piece of at most `most` bytes, front to back.
    pub(crate) fn cut(&mut self, most: u64) -> Option<CutPiece> {
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
        Some(CutPiece {
            place,
            file: run.file,
            offset,
            target,
        })
    }

    /// File of a run, for messages.
    pub(crate) fn file_of(&self, run: usize) -> u32 {
        self.spec.runs[run].file
    }

    /// Takes a piece that arrived whole; checks it, and what waited for it.
    pub(crate) fn arrived(
        &mut self,
        place: Place,
        piece: FillPiece,
        sums: &mut BlockSums,
    ) -> Result<(), Mismatch> {
        if self.checks.is_empty() {
            return Ok(());
        }
        self.early.push((place, piece));
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
            let (_, piece) = self.early.swap_remove(index);
            let skip = if fed == 0 { run.phase() } else { 0 };
            let bytes = piece.bytes();
            let end = (run.phase() + run.len - next).min(bytes.len() as u64);
            check.feed(&bytes[skip as usize..end as usize], sums)?;
            if check.fed() == run.len {
                return Ok(());
            }
        }
    }

    /// Publishes the block: everything has arrived and was checked.
    pub(crate) fn publish(self) {
        debug_assert!(
            self.is_cut() && self.in_flight == 0,
            "publish a complete transfer"
        );
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
        self.fill
            .expect("neither cancelled nor failed")
            .publish(parts);
    }
}
