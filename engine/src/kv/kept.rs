//! KV blocks of earlier texts at a home, by the name of what they are for: a text that begins
//! like one before need not be computed again.
//!
//! The name of a block is made of everything its bytes depend on: the blocks before it, its
//! tokens, the model, how K and V are stored, and the kernels. Blocks of prompts only: generated
//! tokens are computed by other kernels, whose sums differ in the last bit.

use larder_pool::spill::{Kept, KeptRecord};
use larder_pool::units::SLICE_TOKENS;
use std::collections::HashMap;

/// Name of a KV block.
pub type KvKey = [u8; 16];

/// Names of the whole blocks of `prompt`, in order. `identity` stands for everything but the
/// tokens that the bytes of KV depend on.
pub fn keys(identity: &[u8], prompt: &[u32]) -> Vec<KvKey> {
    let mut parent = KvKey::default();
    let blocks = prompt.chunks_exact(SLICE_TOKENS);
    let names = blocks.map(|tokens| {
        let mut hasher = blake3::Hasher::new_derive_key("larder kv block 1");
        hasher.update(&parent);
        hasher.update(&(identity.len() as u64).to_le_bytes());
        hasher.update(identity);
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        hasher.finalize_xof().fill(&mut parent);
        parent
    });
    names.collect()
}

/// Blocks that are kept, the least recently used of which goes first.
#[derive(Debug, Default)]
pub struct KvIndex {
    blocks: HashMap<KvKey, (u64, Vec<KeptRecord>)>,
    now: u64,
}

impl KvIndex {
    /// The blocks that an earlier run kept.
    pub fn new(kept: Vec<Kept>) -> Self {
        let mut index = Self::default();
        for block in kept {
            index.put(block.key, block.records);
        }
        index
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub fn has(&self, key: &KvKey) -> bool {
        self.blocks.contains_key(key)
    }

    /// Takes the slices of a block out, one per layer.
    pub fn take(&mut self, key: &KvKey) -> Option<Vec<KeptRecord>> {
        self.blocks.remove(key).map(|(_, records)| records)
    }

    pub fn put(&mut self, key: KvKey, records: Vec<KeptRecord>) {
        self.now += 1;
        self.blocks.insert(key, (self.now, records));
    }

    /// Drops the block that was used longest ago; `false` if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let oldest = self.blocks.iter().min_by_key(|(_, (time, _))| *time);
        let Some(key) = oldest.map(|(key, _)| *key) else {
            return false;
        };
        self.blocks.remove(&key);
        true
    }

    /// Keeps the blocks of a text. Its last one goes first: without those before it, it is of no
    /// use.
    pub fn keep(&mut self, text: impl DoubleEndedIterator<Item = (KvKey, Vec<KeptRecord>)>) {
        for (key, records) in text.rev() {
            self.put(key, records);
        }
    }

    /// Everything, for the index of the spill folder: what was used longest ago comes first.
    pub fn into_kept(self) -> Vec<Kept> {
        let mut blocks: Vec<_> = self.blocks.into_iter().collect();
        blocks.sort_unstable_by_key(|(_, (time, _))| *time);
        let kept = blocks.into_iter().map(|(key, (_, records))| Kept {
            key,
            tokens: SLICE_TOKENS as u32,
            records,
        });
        kept.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_depends_on_everything_before_it() {
        let prompt: Vec<u32> = (0..200).collect();
        let names = keys(b"model", &prompt);
        assert_eq!(names.len(), 3);
        assert_eq!(keys(b"model", &prompt[..130]), names[..2]);
        assert_ne!(keys(b"another", &prompt)[0], names[0]);
        let mut other = prompt;
        other[5] = 7;
        let others = keys(b"model", &other);
        assert!(others.iter().zip(&names).all(|(a, b)| a != b));
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut index = KvIndex::default();
        for name in 1..=3u8 {
            index.put([name; 16], Vec::new());
        }
        let first = index.take(&[1; 16]).expect("kept");
        index.put([1; 16], first);
        assert!(index.drop_oldest());
        assert!(!index.has(&[2; 16]) && index.has(&[1; 16]) && index.len() == 2);
    }

    #[test]
    fn a_text_goes_from_its_end_in_a_later_session_too() {
        let mut index = KvIndex::default();
        for text in [10..13, 20..22] {
            index.keep(text.map(|name: u8| ([name; 16], Vec::new())));
        }
        let mut left = Vec::new();
        while !index.is_empty() {
            let kept = index.into_kept();
            left.push(kept.iter().map(|block| block.key[0]).collect::<Vec<_>>());
            index = KvIndex::new(kept);
            assert!(index.drop_oldest());
        }
        assert_eq!(left[0], [12, 11, 10, 21, 20]);
        assert_eq!(left[4], [20]);
        assert_eq!(left.len(), 5);
    }
}
