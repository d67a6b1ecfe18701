//! The window of a path to a disk, in pieces: as few as carry what more would carry.
//!
//! What is in flight beyond the bandwidth-delay product waits in a queue and moves nothing, and a
//! demand waits behind it. So the window has a floor, that product with head room, which the
//! caller knows from measurements, and above it a size that is tried out: less and more, each in
//! pairs of rounds beside the present size. It shrinks if less carries as
//! much, which is where latency grew without throughput, and grows while more carries more, which
//! it does where others queue at the same disk.
//!
//! Source: Little, 1961, for the product; Brakmo and Peterson, SIGCOMM 1994 (Vegas), for the rule;
//! Dong et al., NSDI 2015 (PCC), for judging a size by pairs of rounds instead of by a model.

/// Pieces that keep one in flight while another one comes home and is followed up.
const PIECES_MIN: u64 = 2;
/// Pairs of a trial.
const PAIRS: usize = 6;
/// Share of the rate that a smaller window may cost, and that a larger one must bring.
const SAME: f64 = 0.99;
const MORE: f64 = 1.02;
/// A trial goes a fourth of the window up or down, a piece at least.
const STEP: u64 = 4;
/// Rounds between two trials, doubled for each one that changed nothing, up to `REST << DOUBLED`.
const REST: u32 = 8;
const DOUBLED: u32 = 5;

/// Pieces that a window may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The bandwidth-delay product.
    pub(super) floor: u64,
    /// The window before anything has been tried out.
    pub(super) first: u64,
    pub(super) most: u64,
}

impl Range {
    fn clamp(self, pieces: u64) -> u64 {
        let most = self.most.max(PIECES_MIN);
        pieces.clamp(self.floor.clamp(PIECES_MIN, most), most)
    }
}

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
    /// What a trial has come to.
    found: Option<u64>,
    trial: Option<Trial>,
    /// Rounds until the next trial.
    rest: u32,
    /// Trials in a row that changed nothing.
    refused: u32,
    is_growing: bool,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self {
            found: None,
            trial: None,
            rest: REST,
            refused: 0,
            is_growing: true,
        }
    }

    fn size(&self, range: Range) -> u64 {
        range.clamp(self.found.unwrap_or(range.first))
    }

    /// Pieces that may be in flight now.
    pub(super) fn pieces(&self, range: Range) -> u64 {
        let trial = self.trial.as_ref();
        match trial.filter(|trial| trial.beside.is_some()) {
            Some(trial) => range.clamp(trial.pieces),
            None => self.size(range),
        }
    }

    /// A round in which the window was full has ended, at `rate`.
    pub(super) fn round(&mut self, rate: f64, range: Range) {
        let size = self.size(range);
        let is_other = |pieces: u64| pieces != size && range.clamp(pieces) == pieces;
        self.trial.take_if(|trial| !is_other(trial.pieces));
        if let Some(trial) = &mut self.trial {
            let Some(beside) = trial.beside.take() else {
                trial.beside = Some(rate);
                return;
            };
            trial.ratios.push(rate / beside);
            if trial.ratios.len() == PAIRS {
                self.decide(size);
            }
        } else if self.rest > 0 {
            self.rest -= 1;
        } else {
            let step = (size / STEP).max(1);
            let (more, less) = (range.clamp(size + step), range.clamp(size - step));
            let order = if self.is_growing {
                [more, less]
            } else {
                [less, more]
            };
            let other = order.into_iter().find(|&pieces| is_other(pieces));
            self.trial = other.map(|pieces| Trial {
                pieces,
                beside: Some(rate),
                ratios: Vec::with_capacity(PAIRS),
            });
        }
    }

    fn decide(&mut self, size: u64) {
        let Some(mut trial) = self.trial.take() else {
            return;
        };
        trial.ratios.sort_by(f64::total_cmp);
        let ratio = f64::midpoint(trial.ratios[PAIRS / 2 - 1], trial.ratios[PAIRS / 2]);
        let is_larger = trial.pieces > size;
        if ratio >= if is_larger { MORE } else { SAME } {
            (self.found, self.refused) = (Some(trial.pieces), 0);
            self.is_growing = is_larger;
        } else {
            self.refused = (self.refused + 1).min(DOUBLED);
            self.is_growing = !is_larger;
        }
        self.rest = REST << self.refused;
    }
}
