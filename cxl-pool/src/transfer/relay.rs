//! A relay: a ready block is copied between tiers that have memory, mapped or a device's, by the
//! copy engine of the path. Its image stays as it is; its bytes were checked when they came here
//! first, so they are not summed again.

use super::{Cut, Place, StoreWant, Task};
use larder_sys::lease::{Cutter, FillLease, ReadLease};
use larder_sys::slot::PartRange;
use smallvec::SmallVec;

/// See the module.
#[derive(Debug)]
pub(crate) struct Relay {
    /// `None` once cancelled or failed.
    pub(super) fill: Option<FillLease>,
    /// Given up when the last piece is cut.
    cutter: Option<Cutter>,
    /// The source, until the last piece is cut; then the pieces pin it.
    from: Option<ReadLease>,
    /// Bytes to copy, and bytes cut.
    len: u64,
    cut: u64,
    parts: SmallVec<[PartRange; 8]>,
}

impl Relay {
    /// Starts a relay.
    pub(crate) fn new(mut want: StoreWant) -> Self {
        let parts: SmallVec<[PartRange; 8]> = (0..want.from.parts())
            .map(|index| want.from.part_range(index))
            .collect();
        let len = parts.iter().map(|part| part.offset + part.len).max();
        let len = len.expect("a block has a part");
        let cutter = want.fill.cutter();
        assert!(cutter.left() >= len, "the extent holds {}", want.block);
        Self {
            fill: Some(want.fill),
            cutter: Some(cutter),
            from: Some(want.from),
            len,
            cut: 0,
            parts,
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cutter.is_none()
    }

    pub(super) fn cut(&mut self, most: u64) -> Option<Cut> {
        let (cutter, from) = (self.cutter.as_mut()?, self.from.as_ref()?);
        let at = self.cut;
        let len = most.min(self.len - at);
        let task = Task::Copy {
            from: from.piece(at, len),
            to: cutter.cut(len),
        };
        self.cut += len;
        if self.cut == self.len {
            self.stop();
        }
        Some(Cut {
            place: Place { run: 0, at },
            file: 0,
            offset: at,
            task,
        })
    }

    fn stop(&mut self) {
        (self.cutter, self.from) = (None, None);
    }

    pub(super) fn give_up(&mut self) -> Option<FillLease> {
        self.stop();
        self.fill.take()
    }

    /// Publishes the block at its new place.
    pub(super) fn publish(self) {
        self.fill
            .expect("neither cancelled nor failed")
            .publish(self.parts);
    }
}
