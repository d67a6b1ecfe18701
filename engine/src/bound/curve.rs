//! Curves of misses: what a cache of experts misses, by the room it has.
//!
//! Of a run's own routing the curve is exact and costs one pass, because the least recently used
//! include what a smaller cache would hold: an access hits in every cache that is larger than the
//! number of other experts used since the last one.
//!
//! Source: Mattson, Gecsei, Slutz, Traiger, Evaluation techniques for storage hierarchies, 1970.

use super::replay::Record;
use larder_pool::units::BlockId;
use std::collections::HashMap;

/// Places at which a curve is known: no room, `1 / (POINTS - 1)` of the experts, up to all.
pub const POINTS: usize = 33;

/// Share of the picks of a step that a cache misses which drops the least recently used expert.
#[derive(Clone, Debug, PartialEq)]
pub struct MissCurve([f64; POINTS]);

impl MissCurve {
    /// Of the decoding of `record`, whose model has `experts` experts on all layers. `None` if
    /// nothing was decoded.
    pub fn of(record: &Record<'_>, experts: usize) -> Option<Self> {
        if record.decode.is_empty() {
            return None;
        }
        let mut misses_with = vec![0u64; experts + 1];
        // Missed by a cache of any size.
        let mut first_uses = 0;
        for (counts, distance) in distances(record) {
            match distance {
                _ if !counts => {}
                // Hits where there is room for more than `others` experts.
                Some(others) => misses_with[others.min(experts)] += 1,
                None => first_uses += 1,
            }
        }
        // From uses at a distance to misses of each size.
        let mut behind = first_uses;
        for misses in misses_with.iter_mut().rev() {
            behind += *misses;
            *misses = behind;
        }
        let share = |at: usize| {
            let slots = at * experts / (POINTS - 1);
            misses_with[slots] as f64 / record.decode.len() as f64
        };
        Some(Self(std::array::from_fn(share)))
    }

    /// What a router does of which nothing is known, with `picked` of `experts` experts of a layer
    /// picked at a time: a cache of one step's picks hits nothing, one of all misses nothing, and
    /// between them misses fall with the logarithm of the room, as they do where an expert is used
    /// again as likely within 2 steps as within 2 to 4 or 4 to 8.
    ///
    /// It lies between what was measured. With room for a quarter and a half of 24 experts of which
    /// 4 are picked 80 and 51 % are missed (`larder-story-moe`, `docs/PERFORMANCE.md`), here 77 and
    /// 39; with an eighth and a quarter of 512 of which 10 are picked 33 and 19 % (llama.cpp pull
    /// request 27861), here 53 and 35.
    pub fn usual(experts: usize, picked: usize) -> Self {
        let (experts, picked) = (experts as f64, picked as f64);
        let share = |at: usize| {
            let steps = experts * at as f64 / (POINTS - 1) as f64 / picked;
            let most = experts / picked;
            if steps <= 1.0 {
                return 1.0;
            }
            (1.0 - steps.ln() / most.ln()).max(0.0)
        };
        let mut shares: [f64; POINTS] = std::array::from_fn(share);
        shares[POINTS - 1] = 0.0;
        Self(shares)
    }

    /// Takes shares that were kept; `None` if they are none, or grow with the room.
    pub fn kept(shares: &[f64]) -> Option<Self> {
        let shares: [f64; POINTS] = shares.try_into().ok()?;
        let are_shares = shares.iter().all(|share| (0.0..=1.0).contains(share));
        (are_shares && shares.is_sorted_by(|one, next| one >= next)).then_some(Self(shares))
    }

    pub const fn shares(&self) -> &[f64; POINTS] {
        &self.0
    }

    /// Missed share with room for `room` of the experts; where there is room for all, they stay.
    pub fn at(&self, room: f64) -> f64 {
        if room >= 1.0 {
            return 0.0;
        }
        let place = room.max(0.0) * (POINTS - 1) as f64;
        let (below, part) = (place as usize, place.fract());
        self.0[below] * (1.0 - part) + self.0[below + 1] * part
    }

    /// Half of this one and half of another.
    #[must_use]
    pub fn mixed(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| {
            f64::midpoint(self.0[at], other.0[at])
        }))
    }
}

/// For each access whether it counts, and how many other experts were used since the last access
/// to the same one.
fn distances<'a>(record: &'a Record<'_>) -> impl Iterator<Item = (bool, Option<usize>)> + 'a {
    let mut latest = Latest::new(record.prefill.len() + record.decode.len());
    let mut last: HashMap<BlockId, usize> = HashMap::new();
    record
        .accesses()
        .enumerate()
        .map(move |(at, (counts, block))| {
            let before = last.insert(block, at);
            let others = before.map(|before| {
                latest.remove(before);
                latest.behind(before)
            });
            latest.insert(at);
            (counts, others)
        })
}

/// The last access to each expert, as a set of places whose members are counted by sums over
/// powers of two.
///
/// Source: Fenwick, A new data structure for cumulative frequency tables, 1994.
struct Latest {
    sums: Vec<u32>,
    count: usize,
}

impl Latest {
    fn new(len: usize) -> Self {
        Self {
            sums: vec![0; len + 1],
            count: 0,
        }
    }

    fn insert(&mut self, at: usize) {
        self.count += 1;
        self.walk(at, |sum| *sum += 1);
    }

    fn remove(&mut self, at: usize) {
        self.count -= 1;
        self.walk(at, |sum| *sum -= 1);
    }

    fn walk(&mut self, at: usize, change: impl Fn(&mut u32)) {
        let mut place = at + 1;
        while place < self.sums.len() {
            change(&mut self.sums[place]);
            place += place & place.wrapping_neg();
        }
    }

    /// Members behind `at`.
    fn behind(&self, at: usize) -> usize {
        let (mut place, mut up_to) = (at + 1, 0);
        while place > 0 {
            up_to += self.sums[place] as usize;
            place &= place - 1;
        }
        self.count - up_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(list: &[u32]) -> Vec<BlockId> {
        list.iter().copied().map(BlockId::new).collect()
    }

    proptest! {
        #[test]
        fn a_curve_is_the_replay_of_every_size(
            prefill in prop::collection::vec(0..16u32, 0..40),
            decode in prop::collection::vec(0..16u32, 1..80),
        ) {
            let (prefill, decode) = (ids(&prefill), ids(&decode));
            let record = Record { prefill: &prefill, decode: &decode };
            let experts = 2 * (POINTS - 1);
            let curve = MissCurve::of(&record, experts).expect("something was decoded");
            for at in 0..POINTS - 1 {
                let misses = record.lru_misses(2 * at) as f64 / decode.len() as f64;
                let room = at as f64 / (POINTS - 1) as f64;
                prop_assert!((curve.at(room) - misses).abs() < 1e-12, "{} slots", 2 * at);
            }
            prop_assert_eq!(MissCurve::kept(curve.shares()), Some(curve));
        }
    }

    #[test]
    fn usual_misses_fall_with_the_logarithm_of_the_room() {
        let misses = |experts, picked, room| MissCurve::usual(experts, picked).at(room);
        // Room for all, for half and for a quarter of 64 experts, of which 8 are picked.
        assert_eq!(misses(64, 8, 1.0), 0.0);
        assert!((misses(64, 8, 0.5) - 1.0 / 3.0).abs() < 1e-9);
        assert!((misses(64, 8, 0.25) - 2.0 / 3.0).abs() < 1e-9);
        assert!((misses(64, 8, 0.125) - 1.0).abs() < 1e-9);
        for (experts, picked) in [(64, 8), (8, 2), (2, 1), (4, 4), (1, 1)] {
            let curve = MissCurve::usual(experts, picked);
            assert_eq!((curve.at(0.0), curve.at(1.0)), (1.0, 0.0));
            assert!(MissCurve::kept(curve.shares()).is_some(), "{curve:?}");
        }
    }

    #[test]
    fn nonsense_is_no_curve_and_half_of_two_is_one() {
        let shares = *MissCurve::usual(64, 8).shares();
        assert!(MissCurve::kept(&shares[1..]).is_none());
        for wrong in [f64::NAN, -0.1, 1.5] {
            let mut shares = shares;
            shares[POINTS / 2] = wrong;
            assert!(MissCurve::kept(&shares).is_none(), "{wrong}");
        }
        let record = Record {
            prefill: &[],
            decode: &[],
        };
        assert!(MissCurve::of(&record, 8).is_none());
        let (one, other) = (MissCurve::usual(64, 8), MissCurve::usual(64, 4));
        let mixed = one.mixed(&other).at(0.3);
        assert!((mixed - f64::midpoint(one.at(0.3), other.at(0.3))).abs() < 1e-12);
    }
}
