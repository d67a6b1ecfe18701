//! Warming up: between the opening of a session and its first request, what the heat of earlier
//! engines says will be used comes to the fast tier.
//!
//! 1. Begun: the blocks of every step that stay are asked for, then the experts that were used, the
//!    hottest first, as many as have frames, all of class Prefetch.
//! 2. Waited for, by who has no request yet.
//! 3. Ended by the first request, which goes first: what is still on its way is given up.

use super::Session;
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
        let dense = self.manifest.program.dense_blocks();
        let experts = hottest(&self.heat.counts(), dense);
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

/// The blocks behind the first `dense` ones that were used, the most used first.
fn hottest(counts: &[u64], dense: usize) -> Vec<BlockId> {
    let behind = counts.iter().enumerate().skip(dense);
    let mut used: Vec<(usize, u64)> = behind
        .filter(|(_, count)| **count > 0)
        .map(|(index, count)| (index, *count))
        .collect();
    // A stable sort: among equals the order of the layers.
    used.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    used.iter()
        .map(|(index, _)| BlockId::new(*index as u32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_come_first_and_the_unused_not_at_all() {
        let ids = |counts: &[u64], dense| -> Vec<usize> {
            let order = hottest(counts, dense);
            order.into_iter().map(BlockId::index).collect()
        };
        assert_eq!(ids(&[9, 9, 1, 0, 5, 5, 7], 2), [6, 4, 5, 2]);
        // Nonsense is a useless order, nothing else.
        assert_eq!(ids(&[0, u64::MAX, 1, u64::MAX], 1), [1, 3, 2]);
        assert_eq!(ids(&[1, 1], 2), [0; 0]);
        assert_eq!(ids(&[], 2), [0; 0]);
    }
}
