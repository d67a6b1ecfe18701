//! A store: a ready block is written to a copy tier, sealed and published there.
//!
//! Life of a store:
//! 1. Writing: pieces of the source are written to the target's place in the tier's file. While
//!    the tier works on them their checksums are made; pieces from a device are summed in staging.
//! 2. Sealing: every byte is home, and the source's pin is gone; the tier is told so.
//! 3. The target slot is published with the part ranges of the source.
//!
//! A store that fails or is cancelled keeps its target extent until its last operation has
//! completed and the tier has been told to forget what was written.

use super::{Class, Cut, Free, Next, Place, Task};
use crate::block::{BlockSpec, PartSpec, image_spec};
use crate::checksum::{BlockSums, RunCheck, SumStore, run_checks};
use crate::units::BlockId;
use larder_sys::io::{Seal, Verb};
use larder_sys::lease::{Cutter, FillLease, ReadLease};
use larder_sys::slot::PartRange;
use smallvec::SmallVec;
use std::sync::Arc;

/// A store that is asked for.
#[derive(Debug)]
pub struct StoreWant {
    pub block: BlockId,
    /// The replica to write, in mapped memory or on a device.
    pub from: ReadLease,
    pub class: Class,
    /// Order among the stores of a class: smaller goes sooner.
    pub due: u64,
    /// The target: an extent of the tier, of at least the block's bytes. On a tier with memory the
    /// store is a [`super::Relay`].
    pub fill: FillLease,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Writing,
    /// Everything is written; the seal is to be cut.
    Written,
    Sealing,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Storing {
    /// `None` once cancelled or failed.
    pub(super) fill: Option<FillLease>,
    /// Keeps the target extent until the last operation is home.
    target: Option<Cutter>,
    /// The source, until every byte is written.
    from: Option<ReadLease>,
    /// First byte of the target in the file of the tier.
    start: u64,
    /// Bytes to write: whole pages.
    len: u64,
    stage: Stage,
    /// Bytes cut, and bytes summed, from the start.
    cut: u64,
    summed: u64,
    /// The image in the file: one run.
    image: BlockSpec,
    parts: RunningSums,
    /// Sums of the whole, whatever its parts; `None` where they are those of the only part.
    whole: Option<RunningSums>,
}

/// Checksums that are made front to back.
#[derive(Debug)]
struct RunningSums {
    check: RunCheck,
    sums: BlockSums,
}

impl RunningSums {
    /// Sums for the parts of a block of one run.
    fn new(spec: &BlockSpec) -> Self {
        let (mut checks, count) = run_checks(spec);
        Self {
            check: checks.pop().expect("the image has one run"),
            sums: vec![None; count],
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let fed = self.check.feed(bytes, &mut self.sums);
        debug_assert!(fed.is_ok(), "sums that are made agree with themselves");
    }

    /// All sums; every byte has been fed.
    fn all(&self) -> Arc<[u32]> {
        let sums = self.sums.iter().copied().collect::<Option<_>>();
        sums.expect("every byte has been summed")
    }
}

impl Storing {
    /// Starts a store.
    pub(crate) fn new(mut want: StoreWant) -> Self {
        let start = want.fill.extent().start();
        let image = image_spec(&want.from, start);
        let len = image.extent_bytes();
        let target = want.fill.cutter();
        assert!(target.left() >= len, "the extent holds {}", want.block);
        let whole = PartSpec {
            run: 0,
            offset: 0,
            len,
        };
        let parts = RunningSums::new(&image);
        let is_whole = image.parts.as_slice() == [whole];
        let whole = BlockSpec {
            runs: image.runs.clone(),
            parts: SmallVec::from_slice(&[whole]),
        };
        Self {
            fill: Some(want.fill),
            target: Some(target),
            from: Some(want.from),
            start,
            len,
            stage: Stage::Writing,
            cut: 0,
            summed: 0,
            image,
            parts,
            whole: (!is_whole).then(|| RunningSums::new(&whole)),
        }
    }

    /// It is wanted, and bytes of it have not been handed to the device.
    pub(crate) fn has_more_to_write(&self) -> bool {
        self.fill.is_some() && self.cut < self.len
    }

    pub(super) fn is_cut(&self) -> bool {
        self.fill.is_none()
            || match self.stage {
                Stage::Writing => self.cut == self.len,
                Stage::Written => false,
                Stage::Sealing => true,
            }
    }

    pub(super) fn cut(&mut self, most: u64) -> Option<Cut> {
        let (at, verb) = match self.stage {
            Stage::Writing => {
                let at = self.cut;
                let len = most.min(self.len - at);
                self.cut += len;
                (at, Verb::Write(self.from.as_ref()?.piece(at, len)))
            }
            Stage::Written => {
                self.stage = Stage::Sealing;
                let crcs = self.whole.as_ref().unwrap_or(&self.parts).all();
                (
                    0,
                    Verb::Seal(Seal {
                        len: self.len,
                        crcs,
                    }),
                )
            }
            Stage::Sealing => return None,
        };
        Some(Cut {
            place: Place { run: 0, at },
            file: 0,
            offset: self.start + at,
            task: Task::Drive(verb),
        })
    }

    /// Makes the checksums of what has been cut, while it is on its way.
    pub(crate) fn sum(&mut self) {
        let Some(from) = &self.from else { return };
        if self.summed == self.cut || from.is_on_device() {
            return;
        }
        let piece = from.piece(self.summed, self.cut - self.summed);
        self.feed(self.summed, piece.bytes());
    }

    /// Sums the bytes from `at`; they come in order.
    pub(crate) fn feed(&mut self, at: u64, bytes: &[u8]) {
        assert_eq!(at, self.summed, "copies complete in the order they start");
        self.parts.feed(bytes);
        if let Some(whole) = &mut self.whole {
            whole.feed(bytes);
        }
        self.summed += bytes.len() as u64;
    }

    /// Neither cancelled nor failed.
    pub(crate) fn is_wanted(&self) -> bool {
        self.fill.is_some()
    }

    pub(super) fn give_up(&mut self) -> Option<FillLease> {
        self.from = None;
        self.fill.take()
    }

    /// Everything cut so far is home.
    pub(super) fn advance(&mut self) -> Next {
        if self.stage == Stage::Sealing {
            return Next::End;
        }
        self.sum();
        self.from = None;
        self.stage = Stage::Written;
        Next::Again
    }

    /// What is left to do for a store that was given up: nothing if it never began.
    pub(super) fn abandon(&mut self) -> Option<Free> {
        let target = self.target.take()?;
        (self.cut > 0).then(|| Free::abandoned(self.start, target))
    }

    /// Publishes the block at its new place.
    pub(super) fn publish(self, block: BlockId, sums: &SumStore) {
        sums.replace(block, self.parts.all());
        let ranges: SmallVec<[PartRange; 8]> = self
            .image
            .parts
            .iter()
            .map(|part| PartRange {
                offset: part.offset,
                len: part.len,
            })
            .collect();
        drop(self.target);
        self.fill
            .expect("neither cancelled nor failed")
            .publish(ranges);
    }
}
