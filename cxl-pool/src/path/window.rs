//! The window of a path to a disk, in pieces: as few as carry what more would carry.
//!
//! What is in flight beyond the bandwidth-delay product waits in a queue and moves nothing, and a
//! demand waits behind it. So the window has a floor, that product with head room, which the
//! caller knows from measurements, and above it a size that is tried out: one piece less, one
//! piece more, each in pairs of rounds beside the present size. It shrinks if less carries as
//! much, which is where latency grew without throughput, and grows while more carries more.
//!
//! Source: Little, 1961, for the product; Brakmo and Peterson, SIGCOMM 1994 (Vegas), for the rule;
//! Dong et al., NSDI 2015 (PCC), for judging a size by pairs of rounds instead of by a model.

/// Pieces that keep one in flight while another one comes home and is followed up.
const PIECES_MIN: u64 = 2;
/// Pairs of a trial.
const PAIRS: usize = 8;
/// Share of the rate that one piece less may cost, and that one more must bring.
const SAME: f64 = 0.99;
const MORE: f64 = 1.02;
/// Rounds between two trials, doubled for each one that changed nothing, up to `REST << DOUBLED`.
const REST: u32 = 16;
const DOUBLED: u32 = 5;

/// A size beside the present one.
#[derive(Debug)]
struct Trial {
    pieces: u64,
    /// Rate of the last round at the present size, while the round at the other one runs.
    beside: Option<f64>,
    /// Rates at the other size, each by that of the round before.
    ratios: Vec<f64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    pieces: u64,
    trial: Option<Trial>,
    /// Rounds until the next trial.
    rest: u32,
    /// Trials in a row that changed nothing.
    refused: u32,
    is_growing: bool,
}

impl Window {
    /// As much as may be, until it has been tried out.
    pub(super) const fn new() -> Self {
        Self {
            pieces: u64::MAX,
            trial: None,
            rest: REST,
            refused: 0,
            is_growing: false,
        }
    }

    /// Pieces that may be in flight now, from `floor` to `most`.
    pub(super) fn pieces(&self, floor: u64, most: u64) -> u64 {
        let round = self.trial.as_ref().filter(|trial| trial.beside.is_some());
        let pieces = round.map_or(self.pieces, |trial| trial.pieces);
        clamp(pieces, floor, most)
    }

    /// A round in which the window was full has ended, at `rate` bytes per second.
    pub(super) fn round(&mut self, rate: f64, floor: u64, most: u64) {
        self.pieces = clamp(self.pieces, floor, most);
        let possible = |pieces: u64| clamp(pieces, floor, most) == pieces;
        if self
            .trial
            .as_ref()
            .is_some_and(|trial| !possible(trial.pieces))
        {
            self.trial = None;
        }
        match &mut self.trial {
            Some(trial) => {
                let Some(beside) = trial.beside.take() else {
                    trial.beside = Some(rate);
                    return;
                };
                trial.ratios.push(rate / beside);
                if trial.ratios.len() == PAIRS {
                    self.decide();
                }
            }
            None if self.rest > 0 => self.rest -= 1,
            None => {
                let (more, less) = (self.pieces + 1, self.pieces - 1);
                let order = if self.is_growing {
                    [more, less]
                } else {
                    [less, more]
                };
                let other = order.into_iter().find(|&pieces| possible(pieces));
                self.trial = other.map(|pieces| Trial {
                    pieces,
                    beside: Some(rate),
                    ratios: Vec::with_capacity(PAIRS),
                });
            }
        }
    }

    fn decide(&mut self) {
        let Some(mut trial) = self.trial.take() else {
            return;
        };
        trial.ratios.sort_by(f64::total_cmp);
        let ratio = (trial.ratios[PAIRS / 2 - 1] + trial.ratios[PAIRS / 2]) / 2.0;
        let enough = if trial.pieces > self.pieces {
            MORE
        } else {
            SAME
        };
        if ratio >= enough {
            self.is_growing = trial.pieces > self.pieces;
            (self.pieces, self.refused) = (trial.pieces, 0);
        } else {
            self.is_growing = trial.pieces < self.pieces;
            self.refused = (self.refused + 1).min(DOUBLED);
        }
        self.rest = REST << self.refused;
    }
}

fn clamp(pieces: u64, floor: u64, most: u64) -> u64 {
    let most = most.max(PIECES_MIN);
    pieces.clamp(floor.clamp(PIECES_MIN, most), most)
}
