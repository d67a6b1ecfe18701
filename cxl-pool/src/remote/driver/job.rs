//! What a driver has been asked, and how much of it has been answered.

use super::FRAME;
use crate::wire::reply::Refusal;
use crate::wire::sums;
use larder_sys::io::{Errno, Verb};
use larder_sys::lease::{FillPiece, ReadPiece};
use std::ops::Range;
use std::sync::Arc;

/// What is asked and how much of it has been answered.
pub(super) enum Job {
    Read(ReadJob),
    Write(WriteJob),
    /// A seal, or a grant and other calls with one answer.
    Call {
        tag: u64,
        verb: Verb,
        start: u64,
    },
    /// Room for the object that starts there.
    Grant {
        start: u64,
    },
}

pub(super) struct ReadJob {
    pub(super) tag: u64,
    /// `None` while the channel writes into it.
    pub(super) piece: Option<FillPiece>,
    /// First byte in the object, and bytes that it has there.
    pub(super) offset: u64,
    pub(super) due: usize,
    pub(super) answered: usize,
    pub(super) error: Option<Errno>,
}

pub(super) struct WriteJob {
    pub(super) tag: u64,
    pub(super) piece: Arc<ReadPiece>,
    /// First byte in the object.
    pub(super) offset: u64,
    pub(super) unanswered: usize,
    pub(super) unsent: usize,
    pub(super) error: Option<Errno>,
}

impl ReadJob {
    pub(super) fn part(&self, index: usize) -> Range<usize> {
        let start = index * FRAME;
        start.min(self.due)..(start + FRAME).min(self.due)
    }

    /// Part `index` matches the checksums that came with it.
    pub(super) fn is_sound(&self, index: usize, crcs: &[u32]) -> bool {
        let part = self.part(index);
        let at = self.offset + part.start as u64;
        let bytes = self.piece.as_ref().map(|piece| &piece.bytes()[part]);
        bytes.is_some_and(|bytes| sums::matches(at, bytes, crcs))
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered == self.due.div_ceil(FRAME)
    }
}

pub(super) const fn errno_of(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Full { .. } | Refusal::Limit { .. } => Errno::ENOSPC,
        Refusal::Stale => Errno::ESTALE,
        Refusal::Forged | Refusal::Unauthorised => Errno::EACCES,
        Refusal::Mismatch => Errno::EBADMSG,
        Refusal::Missing => Errno::ENOENT,
        Refusal::Disk => Errno::EIO,
        Refusal::Misuse | Refusal::NotInMemory | Refusal::Unsupported => Errno::EPROTO,
    }
}
