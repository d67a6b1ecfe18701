//! The verdict on an operation that has completed: it did all it should, or what went wrong.

use super::InFlight;
use crate::source::Source;
use crate::transfer::MoveError;
use larder_sys::io::{Done, Verb};

/// Whether an operation did all it should.
pub(super) fn verdict(source: &dyn Source, piece: &InFlight, done: &Done) -> Result<(), MoveError> {
    let (offset, len) = (piece.offset, piece.due);
    let file = || source.name(piece.file);
    match (&done.verb, done.outcome) {
        // What a tier could not forget, it will find when the place is written again.
        (Verb::Free, _) => Ok(()),
        (_, Ok(bytes)) if bytes as u64 >= len => Ok(()),
        (Verb::Read(_), Ok(bytes)) => Err(MoveError::Short {
            file: file(),
            offset,
            len,
            found: bytes as u64,
        }),
        (_, Ok(bytes)) => Err(MoveError::ShortWrite {
            file: file(),
            offset,
            len,
            found: bytes as u64,
        }),
        (Verb::Read(_), Err(errno)) => Err(MoveError::Read {
            file: file(),
            offset,
            len,
            errno,
        }),
        (Verb::Write(_), Err(errno)) => Err(MoveError::Write {
            file: file(),
            offset,
            len,
            errno,
        }),
        (Verb::Seal(_), Err(errno)) => Err(MoveError::Seal {
            file: file(),
            offset,
            errno,
        }),
    }
}
