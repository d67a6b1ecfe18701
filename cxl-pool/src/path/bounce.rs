//! The bounce: how a path moves pieces that are on a device, through staging memory.
//!
//! ```text
//! fetch: file -driver-> staging, checked there -copy engine-> device; then the piece is home
//! store: device -copy engine-> staging, summed there -driver-> file; then the piece is home
//! relay: memory -copy engine-> memory, without staging
//! ```
//!
//! A piece is cut only when a staging buffer is free, and pieces of a move take theirs in order,
//! so a piece that waits for its predecessor's check never keeps that from its buffer.

use super::{InFlight, Path};
use crate::device::{Copied, Copier, Copy};
use crate::transfer::{Landed, MoveError, Task, Work};
use larder_sys::io::{Op, Verb};
use larder_sys::lease::{FillPiece, ReadPiece};
use larder_sys::space::{Extent, Space};
use std::collections::HashMap;
use std::sync::Arc;

/// Staging of one path, in bytes, at most; that of all is allowed for beside the budget.
pub const STAGING_MAX: u64 = 32 << 20;

/// See the module.
pub struct Bounce {
    /// Dropped first: its copies have both pieces.
    copier: Box<dyn Copier>,
    /// `None` on a path of relays only.
    staging: Option<Arc<Space>>,
    /// Where pieces go that are being read into staging, by the tag of the read.
    targets: HashMap<u64, FillPiece>,
    /// Moves of pieces that are being copied to the device, by the tag of the copy.
    arriving: HashMap<u64, u64>,
    copied: Vec<Copied>,
}

impl Bounce {
    /// A bounce through `staging`, mapped memory that this path has for itself.
    pub fn new(staging: Arc<Space>, copier: Box<dyn Copier>) -> Self {
        assert!(
            (super::pace::PIECE_MAX..=STAGING_MAX).contains(&staging.len()),
            "staging holds a piece, and is small"
        );
        Self {
            staging: Some(staging),
            ..Self::direct(copier)
        }
    }

    /// The copy engine of a path between tiers that have memory.
    pub fn direct(copier: Box<dyn Copier>) -> Self {
        Self {
            copier,
            staging: None,
            targets: HashMap::new(),
            arriving: HashMap::new(),
            copied: Vec::new(),
        }
    }

    /// Where its pieces go, for the report.
    pub(crate) fn note(&self) -> Option<String> {
        let staging = self.staging.as_ref()?;
        let (engine, kib) = (self.copier.name(), staging.len() >> 10);
        Some(format!("through {kib} KiB of staging by {engine}"))
    }

    pub(super) fn copier(&mut self) -> &mut dyn Copier {
        self.copier.as_mut()
    }

    /// A staging buffer for a piece of `bytes`.
    pub(super) fn take(&self, bytes: u64) -> Buffer {
        match &self.staging {
            None => Buffer::NotNeeded,
            Some(staging) => staging
                .alloc_low(bytes)
                .map_or(Buffer::NoneFree, Buffer::Taken),
        }
    }
}

/// A staging buffer that was asked for.
pub(super) enum Buffer {
    /// The path has no staging: no piece of it goes through one.
    NotNeeded,
    NoneFree,
    Taken(Extent),
}

/// An operation that is submitted, or waits for a copy first.
pub(super) enum Submit {
    Now(Verb),
    /// The copy out of the device has been started.
    AfterCopy,
}

impl Path {
    /// Sends an operation on device memory through the staging buffer that was taken for it, and
    /// a copy to the copy engine.
    pub(super) fn through(&mut self, tag: u64, task: Task, buffer: Buffer) -> Submit {
        let staged = |len: u64| match buffer {
            Buffer::Taken(extent) => FillPiece::of(extent, len),
            _ => unreachable!("pieces on a device go over paths with staging"),
        };
        let (from, to) = match task {
            Task::Drive(Verb::Read(target)) if target.is_on_device() => {
                let piece = staged(target.len() as u64);
                self.engine().targets.insert(tag, target);
                return Submit::Now(Verb::Read(piece));
            }
            Task::Drive(Verb::Write(from)) if from.is_on_device() => {
                let to = staged(from.len() as u64);
                (from, to)
            }
            Task::Drive(verb) => return Submit::Now(verb),
            Task::Copy { from, to } => (from, to),
        };
        self.engine().copier.start(Copy { tag, from, to });
        Submit::AfterCopy
    }

    fn engine(&mut self) -> &mut Bounce {
        self.bounce.as_mut().expect("the path has a copy engine")
    }

    /// Where a piece goes that was read into staging.
    pub(super) fn take_target(&mut self, tag: u64) -> Option<FillPiece> {
        self.bounce.as_mut()?.targets.remove(&tag)
    }

    /// Copies checked pieces on to the device they are for.
    pub(super) fn pass_on(&mut self, id: u64, passed: Vec<Landed>) {
        for landed in passed {
            let (from, Some(to)) = (ReadPiece::from(landed.bytes), landed.target) else {
                continue;
            };
            let tag = self.next_id;
            self.next_id += 1;
            let transfer = self.transfers.get_mut(&id).expect("pieces keep their move");
            transfer.in_flight += 1;
            let bounce = self.engine();
            bounce.arriving.insert(tag, id);
            bounce.copier.start(Copy { tag, from, to });
        }
    }

    /// Takes the copies that have completed.
    pub(super) fn reap_copies(&mut self) {
        let Some(bounce) = self.bounce.as_mut() else {
            return;
        };
        let mut copied = std::mem::take(&mut bounce.copied);
        bounce.copier.reap(&mut copied);
        for one in copied.drain(..) {
            self.copy_home(one);
        }
        self.engine().copied = copied;
    }

    fn copy_home(&mut self, Copied { copy, outcome }: Copied) {
        let bounce = self.engine();
        let engine = bounce.copier.name();
        let outcome = outcome.map_err(|error| MoveError::Copy {
            engine,
            status: error.status,
        });
        if let Some(id) = bounce.arriving.remove(&copy.tag) {
            drop(copy);
            self.piece_home(id, outcome);
            return;
        }
        let tag = copy.tag;
        let piece = self.pieces[&tag];
        if outcome.is_ok() && self.sum_copy(&piece, &copy.to) {
            let op = Op {
                tag,
                file: piece.file,
                offset: piece.offset,
                verb: Verb::Write(copy.to.into()),
            };
            // The piece counts among those in flight since it was cut.
            self.driver
                .submit(op)
                .expect("the driver has room for `depth` operations");
            return;
        }
        if outcome.is_ok() && self.is_relay(&piece) {
            self.pace.moved(piece.len);
        }
        drop(copy);
        self.pieces.remove(&tag);
        self.pace.ended(piece.len);
        self.piece_home(piece.transfer, outcome);
    }

    /// Sums a piece of a store that has come from the device; `false` if nobody wants it now.
    fn sum_copy(&mut self, piece: &InFlight, bytes: &FillPiece) -> bool {
        let transfer = self.transfers.get_mut(&piece.transfer);
        match transfer.map(|transfer| &mut transfer.work) {
            Some(Work::Store(store)) if store.is_wanted() => {
                store.feed(piece.place.at, bytes.bytes());
                true
            }
            _ => false,
        }
    }

    fn is_relay(&self, piece: &InFlight) -> bool {
        let transfer = self.transfers.get(&piece.transfer);
        transfer.is_some_and(|transfer| matches!(transfer.work, Work::Relay(_)))
    }
}
