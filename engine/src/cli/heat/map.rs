//! Heat as it is shown: a level per block, on a scale that doubles.

use crate::cli::options::HeatCount;
use larder_ebpf::{HeatEntry, Region};
use serde::Serialize;
use std::fmt::Write as _;

/// Levels of a picture above zero.
pub(super) const LEVELS: u32 = 8;

/// What `heat --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct HeatReport {
    pub(super) arrays: Vec<ArrayHeat>,
}

/// One array with the blocks of its model, in the order of their ids.
#[derive(Debug, Serialize)]
pub(super) struct ArrayHeat {
    pub(super) array: u32,
    pub(super) manifest: String,
    pub(super) owner_pid: u32,
    pub(super) block_first: u64,
    pub(super) blocks: Vec<BlockHeat>,
}

/// Counters of one block, and those that were asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BlockHeat {
    pub(super) heat: u64,
    touches: u64,
    marks: u64,
    faults: u64,
    samples: u64,
    accesses: u64,
    errors: u64,
}

impl ArrayHeat {
    pub(super) fn new(
        array: u32,
        region: &Region,
        entries: &[HeatEntry],
        count: HeatCount,
    ) -> Self {
        Self {
            array,
            manifest: manifest_name(region.manifest),
            owner_pid: region.owner_pid,
            block_first: region.block_first,
            blocks: entries
                .iter()
                .map(|entry| BlockHeat::new(entry, count))
                .collect(),
        }
    }

    pub(super) fn hottest(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| block.heat)
            .max()
            .unwrap_or(0)
    }

    pub(super) fn title(&self) -> String {
        let used = self.blocks.iter().filter(|block| block.heat > 0).count();
        format!(
            "block_heat_{}: model {}, {used} of {} blocks used, hottest {}",
            self.array,
            &self.manifest[..12],
            self.blocks.len(),
            self.hottest()
        )
    }
}

impl BlockHeat {
    fn new(entry: &HeatEntry, count: HeatCount) -> Self {
        let HeatEntry {
            touches,
            marks,
            faults,
            samples,
            accesses,
            errors,
            ..
        } = *entry;
        let all = [touches, marks, faults, samples, accesses];
        Self {
            // Owners may write any number.
            heat: match count {
                HeatCount::All => all.into_iter().fold(0, u64::saturating_add),
                HeatCount::Touches => touches,
                HeatCount::Marks => marks,
                HeatCount::Faults => faults,
                HeatCount::Samples => samples,
                HeatCount::Accesses => accesses,
            },
            touches,
            marks,
            faults,
            samples,
            accesses,
            errors,
        }
    }
}

/// The words of a manifest's hash as hexadecimal digits, in the order of their bytes.
pub(super) fn manifest_name(words: [u64; 4]) -> String {
    let mut name = String::with_capacity(64);
    for word in words {
        // Writing to a string does not fail.
        let _ = write!(name, "{:016x}", word.swap_bytes());
    }
    name
}

/// Level of `heat` where `hottest` is the highest: 0 for none, `LEVELS` for the hottest, each one
/// in between the same factor apart.
pub(super) fn level(heat: u64, hottest: u64) -> u32 {
    if heat == 0 {
        return 0;
    }
    let share = (heat as f64).ln_1p() / (hottest.max(heat) as f64).ln_1p();
    (share * f64::from(LEVELS))
        .ceil()
        .clamp(1.0, f64::from(LEVELS)) as u32
}

/// Smallest heat that has `wanted`, for the legend.
pub(super) fn least(wanted: u32, hottest: u64) -> u64 {
    let share = f64::from(wanted.saturating_sub(1)) / f64::from(LEVELS);
    let near = ((hottest as f64).ln_1p() * share).exp_m1() as u64;
    let mut least = near.saturating_sub(1).max(1);
    while least < hottest && level(least, hottest) < wanted {
        least += 1;
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise_with_the_heat() {
        for hottest in [1, 2, 7, 1000, u64::MAX] {
            assert_eq!(level(0, hottest), 0);
            assert_eq!(level(hottest, hottest), LEVELS);
            let mut before = 0;
            for power in 0..64 {
                let heat = 1u64 << power;
                if heat <= hottest {
                    assert!(level(heat, hottest) >= before);
                    before = level(heat, hottest);
                }
            }
        }
        for wanted in 1..=LEVELS {
            let least = least(wanted, 1000);
            assert!(level(least, 1000) >= wanted);
            assert!(least == 1 || level(least - 1, 1000) < wanted, "{wanted}");
        }
    }

    #[test]
    fn counters_are_added_or_chosen() {
        let entry = HeatEntry {
            touches: 5,
            marks: u64::MAX,
            ..HeatEntry::default()
        };
        assert_eq!(BlockHeat::new(&entry, HeatCount::All).heat, u64::MAX);
        assert_eq!(BlockHeat::new(&entry, HeatCount::Touches).heat, 5);
        assert_eq!(BlockHeat::new(&entry, HeatCount::Faults).heat, 0);
        assert_eq!(&manifest_name([1, 0, 0, 0xff])[..4], "0100");
    }
}
