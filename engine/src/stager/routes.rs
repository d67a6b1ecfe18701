//! What the routers picked: how far guesses are to be trusted, and the record that bounds replay.

use larder_pool::units::BlockId;
use std::collections::VecDeque;

/// Guesses that the running share of right ones looks back on.
const MEMORY: f32 = 50.0;
/// Share of right guesses from which a rank is worth its bytes: what a wrong one reads is lost,
/// what a right one reads only comes sooner.
const TRUSTED: f32 = 0.85;
/// Experts that are recorded, at most; 4 bytes each.
const RECORD_MAX: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct Routes {
    picked: usize,
    /// What was guessed one layer ahead, two layers ahead, and so on.
    ahead: Vec<Guesses>,
    record: Vec<BlockId>,
    /// Length of the record when the last prefill ended.
    decode_from: usize,
}

/// Guesses made some number of layers ahead.
#[derive(Clone, Debug)]
struct Guesses {
    /// Running share of right ones, by layer and rank, as if one of two had been right before the
    /// first.
    right: Vec<f32>,
    /// Guesses behind the shares of each layer, those two included, up to `MEMORY`.
    seen: Vec<f32>,
    /// The layers whose picks are not known yet, and the guesses by row and rank.
    open: VecDeque<(usize, Vec<u32>)>,
}

impl Routes {
    /// Layers that are guessed: the next one and the one behind it. Layers need unequal numbers of
    /// bytes, and what one needs too many of can come while another computes.
    pub const AHEAD: usize = 2;

    /// No guesses so far, for `layers` layers with `picked` picks of a row.
    pub fn new(layers: usize, picked: usize) -> Self {
        let guesses = Guesses {
            right: vec![0.5; layers * picked],
            seen: vec![2.0; layers],
            open: VecDeque::new(),
        };
        Self {
            picked,
            ahead: vec![guesses; Self::AHEAD],
            record: Vec::new(),
            decode_from: 0,
        }
    }

    /// A layer picked: `picks` by row and rank, which are `blocks`, each once.
    pub fn note(&mut self, layer: usize, picks: &[u32], blocks: &[BlockId]) {
        if self.record.len() < RECORD_MAX {
            self.record.extend(blocks);
        }
        for guesses in &mut self.ahead {
            guesses.compare(layer, self.picked, picks);
        }
    }

    /// Layer `layer` will probably pick `guesses`, by row and rank, as it looks `ahead` layers
    /// before it; those worth fetching come back, each once, most likely first.
    ///
    /// # Panics
    /// If `ahead` is 0 or more than [`Routes::AHEAD`].
    pub fn likely(&mut self, layer: usize, ahead: usize, guesses: Vec<u32>) -> Vec<u32> {
        let known = &mut self.ahead[ahead - 1];
        let mut likely = Vec::new();
        for rank in 0..self.picked {
            if known.right[layer * self.picked + rank] < TRUSTED {
                continue;
            }
            for row in guesses.chunks(self.picked) {
                if !likely.contains(&row[rank]) {
                    likely.push(row[rank]);
                }
            }
        }
        if known.open.len() == ahead {
            // Of a pass that ended early.
            known.open.pop_front();
        }
        known.open.push_back((layer, guesses));
        likely
    }

    /// A prefill has ended: what is recorded from here on is decoding.
    pub fn start_decode(&mut self) {
        self.decode_from = self.record.len();
    }

    /// Forgets the record.
    pub fn restart(&mut self) {
        self.record.clear();
        self.decode_from = 0;
    }

    /// Experts in the order in which layers asked for them: those of the prefill, those of
    /// decoding. `None` if there were too many to keep.
    pub fn record(&self) -> Option<(&[BlockId], &[BlockId])> {
        (self.record.len() < RECORD_MAX).then(|| self.record.split_at(self.decode_from))
    }
}

impl Guesses {
    /// Layer `layer` picked `picks`, by row and by rank of `picked`.
    fn compare(&mut self, layer: usize, picked: usize, picks: &[u32]) {
        let Some((_, guesses)) = self.open.pop_front_if(|(guessed, _)| *guessed == layer) else {
            return;
        };
        let rows = picks.chunks(picked).zip(guesses.chunks(picked));
        for (picks, guesses) in rows {
            let seen = &mut self.seen[layer];
            *seen = (*seen + 1.0).min(MEMORY);
            for (rank, guess) in guesses.iter().enumerate() {
                let right = &mut self.right[layer * picked + rank];
                let hit = if picks.contains(guess) { 1.0 } else { 0.0 };
                *right += (hit - *right) / *seen;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guesses `guess` for layer 1, which then picks `picks`.
    fn compare(routes: &mut Routes, ahead: usize, guess: [u32; 2], picks: [u32; 2]) -> Vec<u32> {
        let likely = routes.likely(1, ahead, guess.to_vec());
        routes.note(1, &picks, &picks.map(BlockId::new));
        likely
    }

    #[test]
    fn only_ranks_that_were_right_are_trusted() {
        let mut routes = Routes::new(2, 2);
        assert!(compare(&mut routes, 1, [3, 4], [9, 3]).is_empty());
        for _ in 0..10 {
            compare(&mut routes, 1, [3, 4], [9, 3]);
        }
        assert_eq!(routes.likely(1, 1, vec![3, 4, 5, 3]), [3, 5]);
        assert!(compare(&mut routes, 2, [3, 4], [9, 3]).is_empty());
        routes.start_decode();
        let (prefill, decode) = routes.record().expect("few");
        assert_eq!((prefill.len(), decode.len()), (24, 0));
        routes.restart();
        assert_eq!(routes.record().expect("none").0, []);
    }

    #[test]
    fn trust_is_lost_as_it_is_won() {
        let mut routes = Routes::new(2, 2);
        for _ in 0..100 {
            compare(&mut routes, 1, [3, 4], [4, 3]);
        }
        assert_eq!(routes.likely(1, 1, vec![3, 4]), [3, 4]);
        routes.note(1, &[7, 8], &[]);
        let lost = (0..100).position(|_| compare(&mut routes, 1, [3, 4], [7, 8]).is_empty());
        assert!(lost.is_some_and(|guesses| guesses < 50), "{lost:?}");
    }

    #[test]
    fn layers_are_guessed_while_others_are_open() {
        let mut routes = Routes::new(4, 1);
        for _ in 0..10 {
            for layer in 0..4 {
                routes.note(layer, &[7], &[]);
                for ahead in (1..=Routes::AHEAD).filter(|ahead| layer + ahead < 4) {
                    let likely = routes.likely(layer + ahead, ahead, vec![7]);
                    assert!(likely.is_empty() || likely == [7]);
                }
            }
        }
        assert_eq!(routes.likely(3, 2, vec![7]), [7]);
        // The pass before ended early, with this guess and another one open.
        for _ in 0..3 {
            let _ = routes.likely(2, 2, vec![7]);
        }
        routes.note(2, &[7], &[]);
    }
}
