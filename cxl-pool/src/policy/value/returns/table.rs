//! How likely a block of a class that has stayed away so long comes back, and who leaves first.

/// Spans of time away, each longer than the one before by the root of two.
pub(super) const BINS: usize = 46;
/// Shortest time between two orders of who leaves.
const REFRESHED: u64 = 256;
/// Counts fade over this many uses per frame.
const MEMORY: f64 = 64.0;
/// What a class is taken to be like all others counts as this many of its uses. Large, because
/// blocks of one run return together.
const LIKE_OTHERS: f64 = 50.0;
/// Uses that the guess for a time away that nobody has reached yet counts.
const GUESSED: f64 = 1.0;
/// In the first span, and of what the span before has.
const FIRST_GUESS: f64 = 0.1;
const FALL: f64 = 0.5;

/// Of a class and span.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    returned: f64,
    stayed: f64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    cells: Vec<[Cell; BINS]>,
    /// Class and span, lowest index first.
    order: Vec<(usize, usize)>,
    refreshed: u64,
}

impl Table {
    pub(super) fn new(classes: usize) -> Self {
        Self {
            cells: vec![[Cell::default(); BINS]; classes],
            order: Vec::new(),
            refreshed: 0,
        }
    }

    pub(super) fn returned(&mut self, class: usize, bin: usize) {
        self.cells[class][bin].returned += 1.0;
    }

    pub(super) fn stayed_away(&mut self, class: usize, bin: usize) {
        self.cells[class][bin].stayed += 1.0;
    }

    pub(super) fn order(&self) -> &[(usize, usize)] {
        &self.order
    }

    /// Orders anew from time to time.
    pub(super) fn refresh(&mut self, now: u64, slots: usize) {
        let passed = now - self.refreshed;
        if passed < REFRESHED.max((slots as u64 / 8).min(2048)) {
            return;
        }
        self.refreshed = now;
        let fade = (-(passed as f64) / (MEMORY * slots.max(1) as f64)).exp();
        for cell in self.cells.iter_mut().flatten() {
            cell.returned *= fade;
            cell.stayed *= fade;
        }
        let all = self.chances_of_all();
        let mut indices = Vec::with_capacity(self.cells.len() * BINS);
        for (class, cells) in self.cells.iter().enumerate() {
            let chances = chances(cells, &all);
            indices.extend((0..BINS).map(|bin| (index(&chances, bin), class, bin)));
        }
        indices.sort_by(|a, b| a.0.total_cmp(&b.0));
        let order = indices.into_iter();
        self.order = order.map(|(_, class, bin)| (class, bin)).collect();
    }

    /// Chance of a return within a span, of all classes together.
    fn chances_of_all(&self) -> [f64; BINS] {
        let mut guess = FIRST_GUESS;
        std::array::from_fn(|bin| {
            let of_bin = self.cells.iter().map(|cells| cells[bin]);
            let (returned, all) = of_bin.fold((0.0, 0.0), |(returned, all), cell| {
                (returned + cell.returned, all + cell.returned + cell.stayed)
            });
            let chance = (returned + GUESSED * guess) / (all + GUESSED);
            guess = chance * FALL;
            chance
        })
    }
}

/// Of one class: where little is known of it, as far from all others as in the spans before, and
/// less so span by span.
fn chances(cells: &[Cell; BINS], all: &[f64; BINS]) -> [f64; BINS] {
    let mut apart = 1.0f64;
    std::array::from_fn(|bin| {
        let Cell { returned, stayed } = cells[bin];
        let guess = (all[bin] * apart).min(0.9);
        let seen = returned + stayed;
        let chance = (returned + LIKE_OTHERS * guess) / (seen + LIKE_OTHERS);
        if seen > 0.0 {
            apart = (chance / all[bin]).clamp(0.05, 20.0);
        }
        apart = apart.sqrt();
        chance
    })
}

/// Best ratio, over the spans from this one on, of the chance to return until its end to the time
/// spent until then.
fn index(chances: &[f64; BINS], from: usize) -> f64 {
    let (mut away, mut time, mut best) = (1.0, 0.0, 0.0f64);
    for (bin, &chance) in chances.iter().enumerate().skip(from) {
        let (start, end) = span(bin);
        // On the average it is in the middle of the span that it is in.
        let half = if bin == from { 0.5 } else { 1.0 };
        let chance = chance * half;
        time += away * (end - start) as f64 * half * (1.0 - chance / 2.0);
        away *= 1.0 - chance;
        best = best.max((1.0 - away) / time);
    }
    best
}

/// Times away of a bin, the end not included.
pub(super) fn span(bin: usize) -> (u64, u64) {
    let end = |bin: usize| {
        let power = 2u64 << (bin / 2);
        if bin.is_multiple_of(2) {
            power
        } else {
            // Root of two, and whole numbers that grow.
            power * 3 / 2
        }
    };
    let start = if bin == 0 { 0 } else { end(bin - 1) };
    (
        start,
        if bin + 1 == BINS {
            u64::MAX >> 8
        } else {
            end(bin)
        },
    )
}

pub(super) fn bin_of(age: u64) -> usize {
    let age = age.max(1);
    let octave = age.ilog2() as usize;
    let half = usize::from(octave > 0 && age >= (1u64 << octave) / 2 * 3);
    if octave == 0 {
        0
    } else {
        (octave * 2 - 1 + half).min(BINS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_each_other_and_hold_their_ages() {
        for bin in 0..BINS {
            let (start, end) = span(bin);
            assert!(start < end, "{bin}");
            assert_eq!(bin_of(start), bin, "start of {bin}");
            assert_eq!(bin_of(end - 1), bin, "end of {bin}");
            assert!(bin == 0 || span(bin - 1).1 == start);
        }
    }

    #[test]
    fn a_hump_is_waited_for() {
        let mut table = Table::new(2);
        for _ in 0..1000 {
            // One class returns within span 10, the other never.
            (0..10).for_each(|bin| table.stayed_away(0, bin));
            table.returned(0, 10);
            (0..20).for_each(|bin| table.stayed_away(1, bin));
        }
        table.refresh(REFRESHED, 100);
        let place = |cell| table.order().iter().position(|&other| other == cell);
        assert!(place((1, 10)) < place((0, 4)));
        assert!(place((0, 4)) < place((0, 9)));
        assert!(place((0, 14)) < place((0, 4)));
    }
}
