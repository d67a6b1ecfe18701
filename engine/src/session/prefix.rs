//! Texts that begin like one before: their KV is taken from the spill folder.

use super::{Session, SessionError};
use crate::kv::Sequence;
use crate::kv::kept::{KvKey, keys};
use crate::manifest::Origin;
use larder_pool::units::SLICE_TOKENS;
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;

/// Longest time that is spent on writing what may be of use to a later text.
const KEEP_SECONDS: f64 = 2.0;

impl Session {
    /// Everything but the tokens that the bytes of KV depend on.
    fn kv_identity(&self) -> Vec<u8> {
        let mut text = String::new();
        let config = &self.manifest.config;
        let kernels = self.backend.name();
        let kernels = kernels
            .rsplit_once(" x ")
            .map_or(kernels.as_str(), |(name, _)| name);
        let kv = self.resolved.kv_type.name();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{} {config:?} {kv} {kernels}",
            env!("CARGO_PKG_VERSION")
        );
        match &self.manifest.origin {
            Origin::Objects(hashes) => {
                let _ = write!(text, " {hashes:?}");
            }
            Origin::Files(files) => {
                for file in files {
                    let _ = write!(text, " {} {}", file.path.display(), file.len);
                    // A file that cannot be looked at cannot be read either.
                    if let Ok(found) = std::fs::metadata(&file.path) {
                        let (inode, seconds) = (found.ino(), found.mtime());
                        let _ = write!(text, " {inode} {seconds} {}", found.mtime_nsec());
                    }
                }
            }
        }
        text.into_bytes()
    }

    /// Names of the blocks of a prompt that may be kept; the last token is always computed.
    pub(super) fn prefix_keys(&self, prompt: &[u32]) -> Vec<KvKey> {
        if self.spill.is_none() {
            return Vec::new();
        }
        keys(
            &self.kv_identity(),
            &prompt[..prompt.len().saturating_sub(1)],
        )
    }

    /// The first block of a prompt is kept.
    pub(super) fn has_prefix(&self, names: &[KvKey]) -> bool {
        let index = self.spill.as_ref().map(|spill| &spill.index);
        let first = index.zip(names.first());
        first.is_some_and(|(index, name)| index.has(name))
    }

    /// Gives a new sequence the blocks of its prompt that are kept, front to back, and makes room
    /// for the others; how many tokens they are.
    pub(super) fn adopt_prefix(&mut self, sequence: &mut Sequence, names: &[KvKey]) -> usize {
        let kv_bytes = self.layout.needs().kv.bytes_for(self.resolved.context);
        let Some(spill) = self.spill.as_mut() else {
            return 0;
        };
        for name in names {
            let Some(records) = spill.index.take(name) else {
                break;
            };
            if !sequence.adopt(spill.home, records) {
                break;
            }
        }
        let space = spill.folder.space();
        let room = || space.len() - space.used_bytes();
        while room() < kv_bytes && spill.index.drop_oldest() {}
        sequence.blocks() * SLICE_TOKENS
    }

    /// Keeps the blocks of the prompt of a text that has ended.
    pub(super) fn keep_prefix(&mut self, sequence: Sequence, names: &[KvKey]) {
        if let Some(spill) = self.spill.as_mut() {
            // Nobody should wait for what may never be asked for.
            let bytes = self.home_rates[spill.home] * KEEP_SECONDS;
            let parked = sequence.park(spill.home, names.len(), bytes as u64);
            spill.index.keep(names.iter().copied().zip(parked));
        }
    }

    /// Ends the session: the next one that uses its spill folder finds what was kept.
    pub fn close(mut self) -> Result<(), SessionError> {
        let spill = self.spill.take();
        // Every write has ended before the index says so.
        drop(self);
        if let Some(spill) = spill {
            spill.folder.close(&spill.index.into_kept())?;
        }
        Ok(())
    }
}
