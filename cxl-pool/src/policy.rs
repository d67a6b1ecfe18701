//! Which resident block leaves when another one needs its room.
//!
//! A policy sees what happens to the blocks of one cache and names the next victim. It moves
//! nothing itself, and it never hears of blocks that stay for good.

mod fresh;
mod queue;

mod arc;
mod belady;
mod lfu;
mod lru;
mod s3fifo;
mod value;

pub mod replay;

pub use arc::Arc;
pub use belady::Belady;
pub use lfu::Lfu;
pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use value::Value;

use crate::units::{BlockId, PromptId};

/// Order in which the blocks of a cache leave.
pub trait Policy: Send {
    /// Name for the report.
    fn name(&self) -> &'static str;

    /// The block has been given room.
    fn entered(&mut self, block: BlockId);

    /// The block has been used; also told of the use that it entered for.
    fn used(&mut self, block: BlockId);

    /// The uses that follow are of the blocks of this prompt, in order, until the next one.
    fn prompt(&mut self, _prompt: PromptId) {}

    /// The answer to a prompt has ended and has so many tokens; at any time behind its uses.
    fn answered(&mut self, _prompt: PromptId, _tokens: u64) {}

    /// The block has lost its room.
    fn left(&mut self, block: BlockId);

    /// The block to drop first among those that `may` leave.
    fn victim(&self, may: &dyn Fn(BlockId) -> bool) -> Option<BlockId>;
}
