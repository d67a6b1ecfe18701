//! One move of one block over one path: what is cut, in flight, checked and left to do.
//!
//! A fetch reads a block into an extent; a store writes one to a copy tier; a relay copies one
//! between tiers that have memory; a free tells a tier that a block has gone. Each is cut into
//! operations, and ends when the last has come home.

mod fetch;
mod free;
mod store;

mod relay;

pub use fetch::Want;
pub(crate) use fetch::{Fetch, Landed};
pub use free::Free;
pub(crate) use relay::Relay;
pub use store::StoreWant;
pub(crate) use store::Storing;

use crate::checksum::{Mismatch, SumStore};
use crate::units::{BlockId, Nanos};
use larder_sys::file::FileError;
use larder_sys::io::{Errno, Verb};
use larder_sys::lease::{FillLease, FillPiece, ReadPiece};
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
    #[error("write {len} bytes of {file} at {offset}: {errno}")]
    Write {
        file: String,
        offset: u64,
        len: u64,
        errno: Errno,
    },
    #[error("write {len} bytes of {file} at {offset}: only {found} were taken; is it full?")]
    ShortWrite {
        file: String,
        offset: u64,
        len: u64,
        found: u64,
    },
    #[error("{engine}: status {status}")]
    Copy { engine: &'static str, status: i32 },
    #[error("seal what was written to {file} at {offset}: {errno}")]
    Seal {
        file: String,
        offset: u64,
        errno: Errno,
    },
    #[error(transparent)]
    Changed(Arc<FileError>),
    #[error(
        "{block} of {file}: checksum of part {} is {:08x}, before it was {:08x}",
        mismatch.part, mismatch.found, mismatch.expected
    )]
    Checksum {
        block: BlockId,
        file: String,
        mismatch: Mismatch,
    },
    #[error("{block}: its memory is held by an earlier move that does not end; is a device stuck?")]
    Held { block: BlockId },
    #[error("{block} cannot be read in place: {why}; fetch it")]
    Unplaced { block: BlockId, why: &'static str },
    #[error("the mover has stopped: {cause}")]
    Stopped { cause: String },
}

impl MoveError {
    /// A second try may help: the device was busy, or not all bytes came.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Read { errno, .. } | Self::Write { errno, .. } | Self::Seal { errno, .. } => {
                matches!(
                    errno,
                    Errno::EAGAIN | Errno::EINTR | Errno::EIO | Errno::EBUSY
                )
            }
            Self::Short { found, .. } | Self::ShortWrite { found, .. } => *found > 0,
            _ => false,
        }
    }

    /// The other end of the path is gone, or is not the one that it was.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Read { errno, .. } | Self::Write { errno, .. } | Self::Seal { errno, .. } => {
                matches!(
                    errno,
                    Errno::ECONNRESET
                        | Errno::ECONNABORTED
                        | Errno::ENOTCONN
                        | Errno::EPIPE
                        | Errno::ESTALE
                        | Errno::EHOSTUNREACH
                        | Errno::ENETUNREACH
                )
            }
            _ => false,
        }
    }

    /// The other end of the path does not answer now; what it has is not lost yet.
    pub const fn is_unanswered(&self) -> bool {
        match self {
            Self::Read { errno, .. } | Self::Write { errno, .. } | Self::Seal { errno, .. } => {
                matches!(errno, Errno::ETIMEDOUT)
            }
            _ => false,
        }
    }

    /// What was read cannot be had there, or is not what it should be; another replica may do.
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Read { errno, .. } => {
                matches!(errno, Errno::EIO | Errno::EBADMSG | Errno::ENOENT)
            }
            Self::Short { .. } | Self::Checksum { .. } => true,
            _ => false,
        }
    }

    /// The tier takes no more: it is full, or may only be read. A file that takes part of a piece
    /// at every try is full too: the error of the rest is never seen.
    pub fn is_capacity(&self) -> bool {
        match self {
            Self::ShortWrite { found, .. } => *found > 0,
            Self::Write { errno, .. } | Self::Seal { errno, .. } => matches!(
                errno,
                Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG | Errno::EROFS
            ),
            _ => false,
        }
    }
}

/// Where a piece belongs: a run, and the first byte counted from the run's aligned start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) run: usize,
    pub(crate) at: u64,
}

/// The next operation of a move.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) place: Place,
    pub(crate) file: u32,
    /// First byte in the file, on a page.
    pub(crate) offset: u64,
    pub(crate) task: Task,
}

/// Who does an operation.
#[derive(Debug)]
pub(crate) enum Task {
    /// The driver.
    Drive(Verb),
    /// The copy engine.
    Copy { from: ReadPiece, to: FillPiece },
}

impl Task {
    /// Bytes that the operation moves.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Drive(verb) => verb.len() as u64,
            Self::Copy { from, .. } => from.len() as u64,
        }
    }
}

/// What a move does.
#[derive(Debug)]
pub(crate) enum Work {
    Fetch(Box<Fetch>),
    Store(Box<Storing>),
    Relay(Box<Relay>),
    Free(Free),
}

/// What becomes of a move that has nothing in flight and nothing to cut.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has more operations to cut.
    Again,
    /// It may be published, if it is still wanted, and dropped.
    End,
}

/// One move.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) block: BlockId,
    pub(crate) class: Class,
    /// Order of use among the moves of a class: smaller is needed sooner.
    pub(crate) due: u64,
    /// Since when somebody waits for it.
    pub(crate) demanded: Option<Nanos>,
    /// Operations that have not come home.
    pub(crate) in_flight: usize,
    pub(crate) work: Work,
}

impl Transfer {
    /// The slot that is being filled; `None` once the move is cancelled or has failed.
    pub(crate) fn slot(&self) -> Option<usize> {
        let fill = match &self.work {
            Work::Fetch(fetch) => fetch.fill.as_ref(),
            Work::Store(store) => store.fill.as_ref(),
            Work::Relay(relay) => relay.fill.as_ref(),
            Work::Free(_) => None,
        };
        fill.map(FillLease::slot)
    }

    /// Every operation has been cut, or none will be any more.
    pub(crate) fn is_cut(&self) -> bool {
        match &self.work {
            Work::Fetch(fetch) => fetch.is_cut(),
            Work::Store(store) => store.is_cut(),
            Work::Relay(relay) => relay.is_cut(),
            Work::Free(free) => free.is_cut(),
        }
    }

    /// Cuts the next operation, of at most `most` bytes.
    pub(crate) fn cut(&mut self, most: u64) -> Option<Cut> {
        match &mut self.work {
            Work::Fetch(fetch) => fetch.cut(most),
            Work::Store(store) => store.cut(most),
            Work::Relay(relay) => relay.cut(most),
            Work::Free(free) => free.cut(),
        }
    }

    /// Stops cutting and lets the slot go; operations in flight keep their extent.
    pub(crate) fn give_up(&mut self) -> Option<FillLease> {
        match &mut self.work {
            Work::Fetch(fetch) => fetch.give_up(),
            Work::Store(store) => store.give_up(),
            Work::Relay(relay) => relay.give_up(),
            Work::Free(_) => None,
        }
    }

    /// Nothing is in flight and nothing left to cut: what now?
    pub(crate) fn advance(&mut self) -> Next {
        let Work::Store(store) = &mut self.work else {
            return Next::End;
        };
        if store.fill.is_some() {
            return store.advance();
        }
        match store.abandon() {
            Some(free) => {
                self.work = Work::Free(free);
                Next::Again
            }
            None => Next::End,
        }
    }

    /// Publishes a move that is still wanted; says whether it was one.
    pub(crate) fn publish(self, sums: &SumStore) -> bool {
        if self.slot().is_none() {
            return false;
        }
        match self.work {
            Work::Fetch(fetch) => fetch.publish(self.block, sums),
            Work::Store(store) => store.publish(self.block, sums),
            Work::Relay(relay) => relay.publish(),
            Work::Free(_) => {}
        }
        true
    }
}
