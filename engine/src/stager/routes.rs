//! What the routers picked: how far guesses are to be trusted, and the record that bounds replay.

use larder_pool::units::BlockId;

/// Weight of the newest guess in the running share of right ones.
const NEWEST: f32 = 0.02;
/// Share of right guesses from which a rank is worth its bytes: what a wrong one reads is lost,
/// what a right one reads only comes sooner.
const TRUSTED: f32 = 0.85;
/// Experts that are recorded, at most; 4 bytes each.
const RECORD_MAX: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct Routes {
    picked: usize,
    /// Running share of right guesses, by layer and rank.
    right: Vec<f32>,
    /// Layer that was guessed, and the guesses by row and rank.
    guess: Option<(usize, Vec<u32>)>,
    record: Vec<BlockId>,
    /// Length of the record when the last prefill ended.
    decode_from: usize,
}

impl Routes {
    /// No guesses so far, for `layers` layers with `picked` picks of a row.
    pub fn new(layers: usize, picked: usize) -> Self {
        Self {
            picked,
            right: vec![0.5; layers * picked],
            guess: None,
            record: Vec::new(),
            decode_from: 0,
        }
    }

    /// A layer picked: `picks` by row and rank, which are `blocks`, each once.
    pub fn note(&mut self, layer: usize, picks: &[u32], blocks: &[BlockId]) {
        if self.record.len() < RECORD_MAX {
            self.record.extend(blocks);
        }
        let Some((_, guesses)) = self.guess.take().filter(|(guessed, _)| *guessed == layer) else {
            return;
        };
        let rows = picks.chunks(self.picked).zip(guesses.chunks(self.picked));
        for (picks, guesses) in rows {
            for (rank, guess) in guesses.iter().enumerate() {
                let right = &mut self.right[layer * self.picked + rank];
                let hit = if picks.contains(guess) { 1.0 } else { 0.0 };
                *right += NEWEST * (hit - *right);
            }
        }
    }

    /// Layer `layer` will probably pick `guesses`, by row and rank; those worth fetching come
    /// back, each once, most likely first.
    pub fn likely(&mut self, layer: usize, guesses: Vec<u32>) -> Vec<u32> {
        let mut likely = Vec::new();
        for rank in 0..self.picked {
            if self.right[layer * self.picked + rank] < TRUSTED {
                continue;
            }
            for row in guesses.chunks(self.picked) {
                if !likely.contains(&row[rank]) {
                    likely.push(row[rank]);
                }
            }
        }
        self.guess = Some((layer, guesses));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranks_that_were_right_are_trusted() {
        let mut routes = Routes::new(2, 2);
        assert!(routes.likely(1, vec![3, 4]).is_empty());
        for _ in 0..200 {
            let _ = routes.likely(1, vec![3, 4]);
            routes.note(1, &[9, 3], &[BlockId::new(9), BlockId::new(3)]);
        }
        assert_eq!(routes.likely(1, vec![3, 4, 5, 3]), [3, 5]);
        routes.start_decode();
        let (prefill, decode) = routes.record().expect("few");
        assert_eq!((prefill.len(), decode.len()), (400, 0));
        routes.restart();
        assert_eq!(routes.record().expect("none").0, []);
    }
}
