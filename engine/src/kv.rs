//! The KV cache of a sequence: slices of 64 tokens, one per layer, as blocks of the store.
//!
//! The slices of the same tokens form a KV block; their slots have consecutive numbers. A slice is
//! appended to under a unique lease until it is full; then it is published and read under pins
//! like any block. A step reserves its tail slices before it starts.

use crate::backend::SliceLeases;
use larder_pool::sys::lease::{AppendLease, ReadLease, SlotTable};
use larder_pool::sys::space::Space;
use larder_pool::table::slot_of;
use larder_pool::units::{BlockId, GRANULE, SLICE_TOKENS};
use std::sync::Arc;

/// Where the KV slices of a model are numbered and how large they are.
#[derive(Clone, Debug)]
pub struct KvLayout {
    pub layers: usize,
    /// Bytes of one slice.
    pub slice_bytes: u64,
    /// Block id of the first slice.
    pub first_block: u32,
}

impl KvLayout {
    /// Bytes that one KV block (a slice of every layer) takes in the arena.
    pub const fn block_bytes(&self) -> u64 {
        self.slice_bytes.next_multiple_of(GRANULE) * self.layers as u64
    }

    /// KV blocks that `tokens` tokens need.
    pub const fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(SLICE_TOKENS)
    }

    /// Bytes in the arena for `tokens` tokens.
    pub const fn bytes_for(&self, tokens: usize) -> u64 {
        self.blocks_for(tokens) as u64 * self.block_bytes()
    }
}

/// No room for the KV of the coming step.
#[derive(Debug, thiserror::Error)]
#[error(
    "no room for {bytes} bytes of kv in the fast tier; give a larger --fast or a smaller --context"
)]
pub struct KvFull {
    pub bytes: u64,
}

/// KV of one sequence.
#[derive(Debug)]
pub struct Sequence {
    layout: KvLayout,
    table: Arc<SlotTable>,
    space: Arc<Space>,
    layers: Vec<SliceLeases>,
    /// Tokens appended.
    len: usize,
    /// KV blocks reserved.
    blocks: usize,
}

impl Sequence {
    /// An empty sequence.
    pub fn new(layout: KvLayout, table: Arc<SlotTable>, space: Arc<Space>) -> Self {
        let layers = (0..layout.layers).map(|_| SliceLeases::default()).collect();
        Self {
            layout,
            table,
            space,
            layers,
            len: 0,
            blocks: 0,
        }
    }

    /// Tokens appended so far.
    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of arena that appending up to `tokens` tokens in all takes beyond what is reserved.
    pub fn bytes_missing(&self, tokens: usize) -> u64 {
        let missing = self.layout.blocks_for(tokens).saturating_sub(self.blocks);
        missing as u64 * self.layout.block_bytes()
    }

    /// Reserves slices for `tokens` tokens in all, from the top of the arena down.
    pub fn reserve(&mut self, tokens: usize) -> Result<(), KvFull> {
        while self.blocks < self.layout.blocks_for(tokens) {
            for layer in 0..self.layout.layers {
                let bytes = self.layout.slice_bytes;
                let extent = self.space.alloc_high(bytes).ok_or(KvFull { bytes })?;
                let index = self.blocks * self.layout.layers + layer;
                let block = BlockId::new(self.layout.first_block + index as u32);
                let tail = self.table.begin_append(slot_of(block), extent);
                self.layers[layer]
                    .tails
                    .push(tail.expect("a new slice has an absent slot"));
            }
            self.blocks += 1;
        }
        Ok(())
    }

    /// The slices of a layer for one attention: pins of the full ones, the tails themselves.
    pub fn lend(&mut self, layer: usize) -> SliceLeases {
        let slices = &mut self.layers[layer];
        SliceLeases {
            full: slices.full.clone(),
            tails: std::mem::take(&mut slices.tails),
        }
    }

    /// Takes the tails back when the attention has completed.
    pub fn take_back(&mut self, layer: usize, tails: Vec<AppendLease>) {
        self.layers[layer].tails = tails;
    }

    /// `tokens` more have been appended on every layer: publishes the slices that are full now.
    pub fn advance(&mut self, tokens: usize) {
        self.len += tokens;
        let full = self.len / SLICE_TOKENS;
        for slices in &mut self.layers {
            while slices.full.len() < full {
                let tail = slices.tails.remove(0);
                let slot = tail.slot();
                tail.publish(self.layout.slice_bytes);
                let lease: ReadLease = self.table.pin(slot).expect("published just now");
                slices.full.push(lease);
            }
        }
    }
}

impl Drop for Sequence {
    /// Frees every slice: nobody else reads them.
    fn drop(&mut self) {
        for slices in self.layers.drain(..) {
            let slots: Vec<usize> = slices.full.iter().map(ReadLease::slot).collect();
            drop(slices);
            for slot in slots {
                drop(self.table.evict(slot));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_pool::sys::mapping::Mapping;

    #[test]
    fn slices_fill_up_get_published_and_come_back() {
        let space = Space::mapped(Mapping::new(1 << 20).expect("memory"));
        let table = SlotTable::new(64);
        let layout = KvLayout {
            layers: 2,
            slice_bytes: 5000,
            first_block: 3,
        };
        assert_eq!(
            (layout.block_bytes(), layout.bytes_for(65)),
            (16_384, 32_768)
        );
        let mut sequence = Sequence::new(layout, Arc::clone(&table), Arc::clone(&space));
        sequence.reserve(100).expect("room");
        assert_eq!(
            (sequence.bytes_missing(128), sequence.bytes_missing(129)),
            (0, 16_384)
        );
        for layer in 0..2 {
            let slices = sequence.lend(layer);
            assert_eq!((slices.full.len(), slices.tails.len()), (0, 2));
            sequence.take_back(layer, slices.tails);
        }
        sequence.advance(100);
        let slices = sequence.lend(1);
        assert_eq!((slices.full.len(), slices.tails.len()), (1, 1));
        sequence.take_back(1, slices.tails);
        drop(slices.full);
        drop(sequence);
        assert_eq!(space.used_bytes(), 0);
    }
}
