//! A free: a tier is told that nobody reads an object any more, then its extent may be used again.

use super::{Cut, Place, Task};
use larder_sys::io::Verb;
use larder_sys::lease::Cutter;
use larder_sys::space::Extent;

/// What keeps an extent out of use.
#[derive(Debug)]
enum Hold {
    /// The block was evicted.
    Evicted { _extent: Extent },
    /// The block was being written and will never be whole.
    Abandoned { _target: Cutter },
}

/// See the module.
#[derive(Debug)]
pub struct Free {
    start: u64,
    is_cut: bool,
    _hold: Hold,
}

impl Free {
    /// Frees an extent whose block has been evicted.
    pub fn evicted(extent: Extent) -> Self {
        Self {
            start: extent.start(),
            is_cut: false,
            _hold: Hold::Evicted { _extent: extent },
        }
    }

    /// Frees the target of a store that was given up; it starts at `start`.
    pub(super) fn abandoned(start: u64, target: Cutter) -> Self {
        Self {
            start,
            is_cut: false,
            _hold: Hold::Abandoned { _target: target },
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn cut(&mut self) -> Option<Cut> {
        let is_first = !std::mem::replace(&mut self.is_cut, true);
        is_first.then_some(Cut {
            place: Place { run: 0, at: 0 },
            file: 0,
            offset: self.start,
            task: Task::Drive(Verb::Free),
        })
    }
}
