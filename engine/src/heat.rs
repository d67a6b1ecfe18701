//! Heat of the blocks of one model: a count of uses per block that tools and probes can see.
//!
//! Where `larder heat start` has pinned maps, an engine claims one of them and its counts outlive
//! it; everywhere else the same code counts in memory of this process.

use crate::manifest::{Manifest, Origin};
use larder_ebpf::{Claim, ClaimError, HeatArray, Pins};
use larder_pool::units::BlockId;
use std::fmt::Write as _;

/// See the module.
#[derive(Debug, Default)]
pub struct Heat {
    array: Option<HeatArray>,
    /// Why the counts stay in this process.
    reason: Option<ClaimError>,
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
        let array = Some(array);
        Self { array, reason }
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

    /// Where the counts are, for the report; `None` if there are none.
    pub fn note(&self) -> Option<String> {
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
