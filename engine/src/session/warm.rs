//! Warming up: between the opening of a session and its first request, what the heat of earlier
//! engines says will be used comes to the fast tier.
//!
//! 1. Begun: the blocks of every step that stay are asked for, then the hot experts in the order in
//!    which a prompt will use them, as many as have frames, all of class Prefetch.
//! 2. Waited for, by who has no request yet.
//! 3. Ended by the first request, which goes first: what is still on its way is given up.

use super::Session;
use crate::manifest::Program;
use larder_pool::transfer::MoveError;
use larder_pool::units::BlockId;
use std::time::{Duration, Instant};

/// What a warm-up brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmed {
    /// Blocks that were asked for, and those that came before the first request.
    pub asked: usize,
    pub blocks: usize,
    /// Bytes of those that came.
    pub bytes: u64,
    /// From its begin to the first request, or until everything was there.
    pub time: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) enum WarmUp {
    #[default]
    None,
    Open {
        asked: Vec<BlockId>,
        begun: Instant,
        /// When everything had come.
        done: Option<Instant>,
    },
    Ended(Warmed),
}

impl Session {
    /// Begins to bring what the heat says will be used; no request may be there yet.
    pub fn begin_warm(&mut self) -> Result<(), MoveError> {
        let begun = Instant::now();
        let experts = by_use(&self.heat.counts(), &self.manifest.program);
        // Any text has KV.
        let border = self.layout.kv_border(1, 0);
        let asked = self.stager.begin_warm(border, &experts)?;
        self.warm_up = WarmUp::Open {
            asked,
            begun,
            done: None,
        };
        Ok(())
    }

    /// Sleeps until everything has come, `longest` at most.
    pub fn wait_warm(&mut self, longest: Option<Duration>) {
        if let WarmUp::Open { asked, begun, done } = &mut self.warm_up {
            let end = longest.map(|longest| *begun + longest);
            self.stager.wait_warm(asked, end);
            *done = Some(Instant::now());
        }
    }

    /// Ends what was begun: a request is there.
    pub fn end_warm(&mut self) -> Result<(), MoveError> {
        let WarmUp::Open { asked, begun, done } = std::mem::take(&mut self.warm_up) else {
            return Ok(());
        };
        let end = done.unwrap_or_else(Instant::now);
        let here = self.stager.end_warm(&asked);
        let bytes = here.iter().map(|&block| self.stager.supply().bytes(block));
        self.warm_up = WarmUp::Ended(Warmed {
            asked: asked.len(),
            blocks: here.len(),
            bytes: bytes.sum(),
            time: end - begun,
        });
        Ok(())
    }

    /// What the warm-up brought, once it has ended; `None` if there was none.
    pub fn warmed(&self) -> Option<Warmed> {
        match self.warm_up {
            WarmUp::Ended(warmed) => Some(warmed),
            WarmUp::None | WarmUp::Open { .. } => None,
        }
    }
}

/// An expert that fewer than one pass in so many used is not what a prompt will ask for first.
const COLD: u64 = 32;

/// The experts that were used: layer by layer, and in each the most used first; the cold ones of
/// all layers are behind. A prompt uses most experts of a layer before it comes to the next, and
/// what it brings drives out what is there: what is hot in a late layer would be gone by then.
fn by_use(counts: &[u64], program: &Program) -> Vec<BlockId> {
    let (dense, experts) = (program.dense_blocks(), program.experts as usize);
    let passes = counts.first().copied().unwrap_or(0);
    let behind = counts.iter().copied().enumerate().skip(dense);
    let mut used: Vec<_> = behind
        .filter(|(_, count)| *count > 0)
        .map(|(index, count)| {
            let is_cold = count.saturating_mul(COLD) < passes;
            let layer = (index - dense) / experts.max(1);
            (is_cold, layer, std::cmp::Reverse(count), index)
        })
        .collect();
    used.sort_unstable();
    let ids = used.iter().map(|(.., index)| BlockId::new(*index as u32));
    ids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks of every step, then layers of three experts.
    fn order(counts: &[u64]) -> Vec<usize> {
        let program = Program {
            layers: Vec::new(),
            head: 1..2,
            experts: 3,
        };
        let order = by_use(counts, &program);
        order.into_iter().map(BlockId::index).collect()
    }

    #[test]
    fn layers_come_in_order_the_cold_last_and_the_unused_not_at_all() {
        let counts = [90, 90, 5, 0, 7, 2, 60, 5];
        assert_eq!(order(&counts), [4, 2, 6, 7, 5]);
        // Nonsense is a useless order, nothing else.
        let most = u64::MAX;
        assert_eq!(order(&[most, 0, most, 1, most, 1]), [2, 4, 3, 5]);
        assert_eq!(order(&[0, 0, most, 1]), [2, 3]);
        assert_eq!(order(&[1, 1]), [0; 0]);
        assert_eq!(order(&[]), [0; 0]);
    }
}
