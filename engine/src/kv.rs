//! The KV cache: slices of 64 tokens, one per layer, as blocks of the store.
//!
//! The slices of the same tokens form a KV block; their slots have consecutive numbers. A slice is
//! appended to under a unique lease until it is full; then it is published and read under pins
//! like any block. Where a lower tier is given, full slices that find no room leave the fast tier
//! for a home there, and stream back for every step.

pub mod kept;
mod stream;
mod sequence;

pub use sequence::Sequence;

use larder_pool::sys::space::GRANULE;
use larder_pool::transfer::MoveError;
use larder_pool::units::{BlockId, SLICE_TOKENS};

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
    /// Bytes of one slice in the arena.
    pub const fn frame_bytes(&self) -> u64 {
        self.slice_bytes.next_multiple_of(GRANULE)
    }

    /// Bytes that one KV block (a slice of every layer) takes in the arena.
    pub const fn block_bytes(&self) -> u64 {
        self.frame_bytes() * self.layers as u64
    }

    /// KV blocks that `tokens` tokens need.
    pub const fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(SLICE_TOKENS)
    }

    /// Bytes in the arena for `tokens` tokens.
    pub const fn bytes_for(&self, tokens: usize) -> u64 {
        self.blocks_for(tokens) as u64 * self.block_bytes()
    }

    /// The block of a slice.
    pub const fn slice(&self, at: SliceAt) -> BlockId {
        let index = at.block * self.layers + at.layer;
        BlockId::new(self.first_block + index as u32)
    }
}

/// A slice of a sequence: its layer, and which 64 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceAt {
    pub layer: usize,
    pub block: usize,
}

/// KV could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    #[error(
        "no room for {bytes} bytes of kv in the fast tier; give a larger --fast, a smaller \
         --context, or a tier to spill to (--tier nvme=DIR,SIZE)"
    )]
    Full { bytes: u64 },
    #[error(
        "no room for {bytes} bytes of kv on {homes}; give a larger tier or a smaller --context"
    )]
    HomesFull { bytes: u64, homes: String },
    #[error("kv of {tokens} tokens was lost with {home}: {cause}")]
    Lost {
        tokens: usize,
        home: String,
        cause: String,
    },
    #[error(transparent)]
    Move(#[from] MoveError),
}

#[cfg(test)]
mod tests;
