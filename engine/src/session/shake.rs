//! Shaking: between two steps, blocks drawn by chance leave the fast tier.
//!
//! Where bytes are never changes an answer, so a run that is shaken makes the same tokens as one
//! that is not. Tests use it to reach places of blocks and slices that no policy would choose.

use super::Session;
use crate::kv::{KvError, Sequence};
use larder_pool::sim::SplitMix;

/// One block in so many leaves between two steps.
const ONE_IN: u64 = 8;

/// See the module.
pub(super) struct Shake {
    random: SplitMix,
    evicted: u64,
}

impl Session {
    /// From now on, evicts blocks drawn from `seed` between two steps.
    pub fn shake(&mut self, seed: u64) {
        self.shake = Some(Shake {
            random: SplitMix(seed),
            evicted: 0,
        });
    }

    /// Blocks and slices that were drawn and left; `None` if nothing is shaken.
    pub fn shaken(&self) -> Option<u64> {
        self.shake.as_ref().map(|shake| shake.evicted)
    }

    /// A step has ended.
    pub(super) fn shake_step(&mut self, sequence: &mut Sequence) -> Result<(), KvError> {
        let Some(shake) = self.shake.as_mut() else {
            return Ok(());
        };
        let mut pick = || shake.random.next_u64().is_multiple_of(ONE_IN);
        let slices = sequence.send_some(&mut pick);
        let blocks = self.stager.evict_some(&mut pick)?;
        shake.evicted += slices + blocks;
        Ok(())
    }
}
