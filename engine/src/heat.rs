//! Heat of the blocks of one model: a count of uses per block that tools and probes can see.
//!
//! Where `larder heat start` has pinned maps, an engine claims one of them and its counts outlive
//! it; everywhere else the same code counts in memory of this process, and a file may keep it.
//!
//! Counts fade: when the first block of the model has been used [`HALVE_AT`] times, those of all
//! blocks are halved. Every pass uses that block, so the memory is one of passes, whatever their
//! number in one process.
//!
//! Source of the halving: Einziger and others, TinyLFU, 2017.

mod file;
mod keeper;

pub use file::HeatFileError;

use crate::manifest::{Manifest, Origin};
use keeper::Keeper;
use larder_ebpf::{Claim, ClaimError, HeatArray, Pins};
use larder_pool::units::BlockId;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Uses of the first block at which all counts are halved: some conversations back, what was asked
/// for then says little.
const HALVE_AT: u64 = 2048;

/// See the module.
#[derive(Debug, Default)]
pub struct Heat {
    // Dropped before the array, which it writes once more.
    keeper: Option<Keeper>,
    array: Option<Arc<HeatArray>>,
    /// Why the counts stay in this process.
    reason: Option<ClaimError>,
    /// What became of the file.
    file: Option<String>,
}

impl Heat {
    /// Claims an array for the blocks of `manifest`; one of its own if none can be had.
    pub fn claim(pins: &Pins, manifest: &Manifest) -> Self {
        let claim = Claim {
            manifest: model_hash(manifest),
            block_first: 0,
            block_count: manifest.blocks.len() as u64,
            // Blocks move within the arena, so no address is one block's for long.
            ranges: Vec::new(),
        };
        let (array, reason) = HeatArray::claim_or_private(pins, &claim);
        Self {
            keeper: None,
            array: Some(Arc::new(array)),
            reason,
            file: None,
        }
    }

    /// Begins with what `path` says, where no array came with heat, and keeps the counts there from
    /// now on. A file that is of no use is told in [`Heat::notes`], and nobody else's is touched.
    pub fn keep_in(&mut self, path: &Path, manifest: &Manifest) {
        let Some(array) = &self.array else { return };
        let model = model_hash(manifest);
        let shown = path.display();
        let mut note = match file::read(path, model, array.entries()) {
            Ok(Some(_)) if array.is_heat_kept() => {
                format!("heat of the array goes before that in {shown}")
            }
            Ok(Some(counts)) => {
                for (entry, count) in counts.into_iter().enumerate() {
                    array.set_touches(entry, count.min(2 * HALVE_AT));
                }
                format!("heat of earlier runs from {shown}")
            }
            Ok(None) => format!("heat is kept in {shown}"),
            Err(error) if error.may_be_replaced() => error.to_string(),
            Err(error) => {
                self.file = Some(error.to_string());
                return;
            }
        };
        match Keeper::start(path, model, Arc::clone(array)) {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(error) => note = error.to_string(),
        }
        self.file = Some(note);
    }

    /// A block was used once, by all operations of a step on it. Without an array it counts
    /// nothing.
    #[inline]
    pub fn touch(&self, block: BlockId) {
        if let Some(array) = &self.array {
            array.touch(block.index(), 1);
        }
    }

    /// Uses of `block` that are known, those of earlier engines included.
    pub fn touches(&self, block: BlockId) -> u64 {
        let array = self.array.as_ref();
        array.map_or(0, |array| array.get(block.index()).touches)
    }

    /// Uses of all blocks, by id.
    pub fn counts(&self) -> Vec<u64> {
        let array = self.array.as_deref();
        array.map(keeper::counts).unwrap_or_default()
    }

    /// A pass has ended: counts fade if it is time. Nonsense that an array came with fades too.
    pub fn fade(&self) {
        let Some(array) = &self.array else { return };
        if array.entries() == 0 || array.get(0).touches < HALVE_AT {
            return;
        }
        for entry in 0..array.entries() {
            let touches = array.get(entry).touches.min(HALVE_AT);
            array.set_touches(entry, touches / 2);
        }
    }

    /// Where the counts are, for the report; nothing if there are none.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let lost = self.keeper.as_ref().and_then(Keeper::failure);
        self.place()
            .into_iter()
            .chain(self.file.clone())
            .chain(lost)
    }

    fn place(&self) -> Option<String> {
        let array = self.array.as_ref()?;
        Some(match (array.array(), &self.reason) {
            (Some(number), _) if array.is_heat_kept() => {
                format!("heat counted in block_heat_{number}, on top of earlier runs")
            }
            (Some(number), _) => format!("heat counted in block_heat_{number}"),
            (None, Some(reason)) => format!("heat counted in this process only: {reason}"),
            (None, None) => "heat counted in this process only".to_owned(),
        })
    }
}

/// Name of a model among heat arrays: its shape, its cut and where its bytes stand, as four words
/// of blake3.
pub fn model_hash(manifest: &Manifest) -> [u64; 4] {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{:?}", manifest.config);
    for block in &manifest.blocks {
        let _ = write!(text, " {}", block.spec.extent_bytes());
    }
    match &manifest.origin {
        Origin::Objects(hashes) => {
            let _ = write!(text, " {hashes:?}");
        }
        Origin::Files(files) => {
            for file in files {
                let name = file.path.file_name().unwrap_or_default();
                let _ = write!(text, " {} {}", name.display(), file.len);
            }
        }
    }
    let hash = blake3::derive_key("larder heat of a model 1", text.as_bytes());
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.chunks_exact(8)) {
        let bytes = bytes.try_into().expect("chunks of eight");
        *word = u64::from_le_bytes(bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fade_with_passes_and_nonsense_with_them() {
        let array = HeatArray::private(&Claim {
            manifest: [1; 4],
            block_first: 0,
            block_count: 4,
            ranges: Vec::new(),
        });
        for (entry, count) in [HALVE_AT - 1, 6, 0, u64::MAX].into_iter().enumerate() {
            array.set_touches(entry, count);
        }
        let heat = Heat {
            array: Some(Arc::new(array)),
            ..Heat::default()
        };
        heat.fade();
        assert_eq!(heat.counts()[..3], [HALVE_AT - 1, 6, 0]);
        heat.touch(BlockId::new(0));
        heat.fade();
        assert_eq!(heat.counts(), [HALVE_AT / 2, 3, 0, HALVE_AT / 2]);
        // An array of another engine that says all was used for ever.
        let array = heat.array.as_ref().expect("made above");
        array.set_touches(0, u64::MAX);
        heat.fade();
        assert_eq!(heat.counts()[..2], [HALVE_AT / 2, 1]);
        assert!(Heat::default().counts().is_empty());
        Heat::default().fade();
    }
}
