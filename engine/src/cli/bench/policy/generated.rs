//! Made-up traces, each with one trait that real ones mix: skew, scans, change, a cycle.

use super::traces::Trace;
use larder_pool::units::BlockId;

/// Blocks that are used more than once, and uses of each trace.
const BLOCKS: u32 = 2000;
const USES: usize = 100_000;
/// Exponent of the skew.
const SKEW: f64 = 0.9;
/// Uses between two scans of `SCAN` blocks that nobody uses again.
const BETWEEN_SCANS: usize = 8000;
const SCAN: u32 = 1000;
/// Uses after which other blocks are the popular ones.
const SHIFT_EVERY: usize = 20_000;

/// All of them, from the same start.
pub(super) fn all(seed: u64) -> Vec<Trace> {
    vec![zipf(seed), scans(seed), shift(seed), cycle()]
}

/// Numbers that look random. Source: Steele, Lea and Flood, splitmix64, OOPSLA 2014.
struct Random(u64);

impl Random {
    /// At least 0, less than 1.
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Draws block `i` with a share of 1 / (i + 1)^`SKEW`.
struct Skewed {
    sums: Vec<f64>,
    random: Random,
}

impl Skewed {
    fn new(seed: u64) -> Self {
        let mut sum = 0.0;
        let sums = (0..BLOCKS).map(|block| {
            sum += f64::from(block + 1).powf(-SKEW);
            sum
        });
        Self {
            sums: sums.collect(),
            random: Random(seed),
        }
    }

    fn draw(&mut self) -> u32 {
        let all = self.sums.last().copied().unwrap_or(0.0);
        let at = self.random.draw() * all;
        (self.sums.partition_point(|&sum| sum <= at) as u32).min(BLOCKS - 1)
    }
}

fn trace(name: &str, uses: Vec<u32>) -> Trace {
    Trace {
        name: name.to_owned(),
        uses: uses.into_iter().map(BlockId::new).collect(),
        ..Trace::default()
    }
}

fn zipf(seed: u64) -> Trace {
    let mut skewed = Skewed::new(seed);
    trace("zipf", (0..USES).map(|_| skewed.draw()).collect())
}

/// Skew, and now and then a scan of blocks that are used once.
fn scans(seed: u64) -> Trace {
    let mut skewed = Skewed::new(seed);
    let (mut uses, mut next) = (Vec::with_capacity(USES), BLOCKS);
    while uses.len() < USES {
        uses.extend((0..BETWEEN_SCANS).map(|_| skewed.draw()));
        uses.extend(next..next + SCAN);
        next += SCAN;
    }
    trace("scans", uses)
}

/// Skew whose popular blocks change all at once.
fn shift(seed: u64) -> Trace {
    let mut skewed = Skewed::new(seed);
    let uses = (0..USES).map(|at| {
        // A step that shares no factor with the number of blocks moves every one of them.
        let moved = (at / SHIFT_EVERY) as u32 * 789;
        (skewed.draw() + moved) % BLOCKS
    });
    trace("shift", uses.collect())
}

/// Every block in turn, as the steps of a dense model use them.
fn cycle() -> Trace {
    trace("cycle", (0..USES as u32).map(|at| at % BLOCKS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_has_its_trait_and_is_the_same_each_time() {
        let [zipf, scans, shift, cycle] = all(3).try_into().expect("four");
        let again = all(3);
        assert!(zipf.uses == again[0].uses && scans.uses == again[1].uses);
        assert!(zipf.uses != all(4)[0].uses);
        let tenth = |uses: &[BlockId]| {
            let hot = uses
                .iter()
                .filter(|block| block.index() < BLOCKS as usize / 10);
            hot.count() as f64 / uses.len() as f64
        };
        assert!(tenth(&zipf.uses) > 0.5, "{}", tenth(&zipf.uses));
        assert!(tenth(&shift.uses[SHIFT_EVERY..]) < 0.3);
        let distinct: HashSet<_> = scans.uses.iter().collect();
        assert!(distinct.len() > BLOCKS as usize + 9 * SCAN as usize);
        assert_eq!(cycle.uses[BLOCKS as usize], cycle.uses[0]);
    }
}
