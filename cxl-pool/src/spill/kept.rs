//! What a run leaves to the next: which tokens a group of blocks is for, and where each stands.

use crate::mover::Mover;
use crate::table::block_of;
use larder_sys::slot::PartRange;
use larder_sys::space::Extent;
use std::sync::Arc;

/// A group of blocks that is kept, such as the slices of a KV block.
#[derive(Debug)]
pub struct Kept {
    /// Name of the content; what it is made of is its owner's.
    pub key: [u8; 16],
    /// Tokens that the group is for.
    pub tokens: u32,
    pub records: Vec<KeptRecord>,
}

/// One block of a group: its extent, its parts and their checksums.
#[derive(Debug)]
pub struct KeptRecord {
    pub(super) extent: Extent,
    pub(super) parts: Box<[PartRange]>,
    pub(super) sums: Arc<[u32]>,
}

impl KeptRecord {
    /// Takes the replica in `slot` out of the table; `None` if it is not there, is leased, or has
    /// no checksums.
    pub fn take(mover: &Mover, slot: usize) -> Option<Self> {
        let sums = mover.sums_of(block_of(slot))?;
        let lease = mover.table().pin(slot)?;
        let parts = (0..lease.parts())
            .map(|index| lease.part_range(index))
            .collect();
        drop(lease);
        let extent = mover.table().evict(slot)?;
        Some(Self {
            extent,
            parts,
            sums,
        })
    }

    /// Puts the replica into `slot`, whose block takes the checksums. It comes back if the slot is
    /// not absent.
    pub fn give(self, mover: &Mover, slot: usize) -> Result<(), Self> {
        let Self {
            extent,
            parts,
            sums,
        } = self;
        match mover.table().begin_fill(slot, extent) {
            Ok(fill) => {
                mover.set_sums(block_of(slot), sums);
                fill.publish(parts.into_iter().collect());
                Ok(())
            }
            Err(extent) => Err(Self {
                extent,
                parts,
                sums,
            }),
        }
    }

    /// Bytes of the parts.
    pub fn data_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }
}
