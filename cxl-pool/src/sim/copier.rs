//! A copy engine without a thread.

use super::random::SplitMix;
use crate::device::{Copied, Copier, Copy, CopyError, perform};
use larder_sys::space::DeviceKey;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// A copy engine without a thread: each look at it finds some of its copies completed, in order,
/// and some of those failed.
pub struct SteppedCopier {
    key: Arc<DeviceKey>,
    queue: VecDeque<Copy>,
    random: SplitMix,
    /// Probability per copy, from 0 to 1.
    error: f64,
}

impl SteppedCopier {
    pub fn new(key: Arc<DeviceKey>, error: f64, seed: u64) -> Self {
        Self {
            key,
            queue: VecDeque::new(),
            random: SplitMix(seed),
            error,
        }
    }
}

impl Copier for SteppedCopier {
    fn name(&self) -> &'static str {
        "stepped copy engine"
    }

    fn wakes(&mut self, _waker: Waker) {}

    fn start(&mut self, copy: Copy) {
        self.queue.push_back(copy);
    }

    fn reap(&mut self, done: &mut Vec<Copied>) {
        let count = self.random.next_u64() as usize % (self.queue.len() + 1);
        for mut copy in self.queue.drain(..count) {
            let outcome = if self.random.chance(self.error) {
                Err(CopyError { status: 700 })
            } else {
                perform(&mut copy, &self.key);
                Ok(())
            };
            done.push(Copied { copy, outcome });
        }
    }
}
