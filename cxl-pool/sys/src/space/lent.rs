//! A space of another process, which keeps its bytes as they are while we read them.

use super::{Extent, FreeMap, GRANULE, Memory, Space};
use crate::mapping::LentMapping;
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What another process lends.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) mapping: LentMapping,
    /// Tells its owner, by being open, that we read; declared last, so that it is closed when
    /// nothing is mapped any more.
    _keeper: OwnedFd,
}

impl Space {
    /// A space over memory that another process keeps as it is until `keeper` is closed: when the
    /// last extent of the space is gone.
    pub fn lent(mapping: LentMapping, keeper: OwnedFd) -> Arc<Self> {
        let len = mapping.mapping().len() / GRANULE * GRANULE;
        Arc::new(Self {
            len,
            free: Mutex::new(FreeMap {
                ranges: BTreeMap::new(),
                used: 0,
                peak: 0,
            }),
            memory: Memory::Lent(Lent {
                mapping,
                _keeper: keeper,
            }),
        })
    }

    /// The bytes are another process's.
    pub const fn is_lent(&self) -> bool {
        matches!(self.memory, Memory::Lent(..))
    }

    /// A view of `start .. start + bytes`, rounded up to whole granules, of a lent space; `None` if
    /// that is not inside it. Views may overlap, and none of them can be written.
    pub fn view(self: &Arc<Self>, start: u64, bytes: u64) -> Option<Extent> {
        assert!(self.is_lent(), "extents of our own are allocated");
        let len = bytes.max(1).checked_next_multiple_of(GRANULE)?;
        let is_inside = start.checked_add(len).is_some_and(|end| end <= self.len);
        (is_inside && start.is_multiple_of(GRANULE)).then(|| Extent {
            space: Arc::clone(self),
            start,
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{FillPiece, Scratch, SlotTable};
    use crate::mapping::Mapping;
    use crate::slot::PartRange;
    use smallvec::SmallVec;

    /// Memory of our own with a pattern, lent to ourselves; the scratch keeps it written.
    fn lent(granules: u64) -> (Scratch, Arc<Space>, OwnedFd) {
        let mapping = Mapping::shared(granules * GRANULE).expect("memory");
        let file = mapping.descriptor().expect("shared");
        let file = file.try_clone_to_owned().expect("a descriptor");
        let own = Space::mapped(mapping);
        let mut scratch = Scratch::new(own.alloc_low(own.len()).expect("room"));
        for (at, byte) in scratch.bytes_mut().iter_mut().enumerate() {
            *byte = (at / 7) as u8;
        }
        let mapping = Mapping::lent(file, granules * GRANULE).expect("maps");
        let (exit, entrance) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        (scratch, Space::lent(mapping, entrance), exit)
    }

    fn is_refused(access: impl FnOnce()) -> bool {
        let access = std::panic::AssertUnwindSafe(access);
        std::panic::catch_unwind(access).is_err()
    }

    /// The other end is closed.
    fn is_let_go(exit: &OwnedFd) -> bool {
        let mut poll = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(exit),
            nix::poll::PollFlags::empty(),
        )];
        nix::poll::poll(&mut poll, 0u8).is_ok_and(|ready| ready == 1)
    }

    #[test]
    fn what_stands_there_is_published_and_kept_by_whoever_reads_it() {
        if cfg!(miri) {
            println!("skipped: miri has no memfd");
            return;
        }
        let (scratch, space, exit) = lent(4);
        let table = SlotTable::new(2);
        for slot in 0..2 {
            let view = space.view(GRANULE, 5000).expect("inside");
            assert_eq!(view.len(), 2 * GRANULE);
            let fill = table.begin_fill(slot, view).expect("absent");
            assert!(fill.lent_bytes() == &scratch.bytes()[4096..3 * 4096]);
            let parts = [PartRange { offset: 8, len: 90 }];
            fill.publish(SmallVec::from_slice(&parts));
        }
        drop(space);
        let lease = table.pin(0).expect("ready");
        assert!(lease.part(0) == &scratch.bytes()[4096 + 8..4096 + 98]);
        let piece = lease.piece(0, 2 * GRANULE);
        assert!(piece.bytes() == &scratch.bytes()[4096..3 * 4096]);
        drop((piece, lease));
        assert!(table.evict(0).is_some());
        assert!(!is_let_go(&exit), "the other slot reads on");
        assert!(table.evict(1).is_some());
        assert!(is_let_go(&exit));
    }

    #[test]
    fn lent_memory_is_neither_written_nor_allocated_nor_registered() {
        if cfg!(miri) {
            println!("skipped: miri has no memfd");
            return;
        }
        let (scratch, space, _exit) = lent(4);
        let view = |start, len| space.view(start, len).expect("inside");
        for (start, len) in [
            (1, 1),
            (4 * GRANULE, 1),
            (0, 4 * GRANULE + 1),
            (0, u64::MAX),
        ] {
            assert!(space.view(start, len).is_none(), "{start}+{len}");
        }
        assert!(space.view(u64::MAX / GRANULE * GRANULE, 1).is_none());
        assert!(space.alloc_low(1).is_none() && space.alloc_high(1).is_none());
        assert!(space.alloc_at(0, 1).is_none() && space.mapping().is_none());
        assert_eq!((space.give_back(0), space.used_bytes()), (0, 0));
        let mut piece = FillPiece::of(view(0, GRANULE), 100);
        assert!(piece.bytes() == &scratch.bytes()[..100]);
        assert!(is_refused(|| piece.bytes_mut().fill(1)));
        assert!(is_refused(|| _ = piece.address()));
        assert!(is_refused(|| drop(Scratch::new(view(0, 1)))));
        let table = SlotTable::new(1);
        assert!(is_refused(|| drop(table.begin_append(0, view(0, 1)))));
        let own = Space::counted(GRANULE);
        assert!(is_refused(|| drop(own.view(0, 1))));
        let fill = SlotTable::new(1).begin_fill(0, own.alloc_low(1).expect("room"));
        assert!(is_refused(|| _ = fill.expect("absent").lent_bytes()));
        assert_eq!(
            scratch.bytes()[..20],
            [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
        );
    }
}
