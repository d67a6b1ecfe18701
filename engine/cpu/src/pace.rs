//! How far ahead of its loads a thread prefetches weights, by how fast it reads them.
//!
//! What is prefetched has to be there when it is loaded: a distance is a time, which memory needs
//! to answer. A thread that reads 4 KiB in less than that finds them late; further ahead than
//! needed, they push each other out of the first-level cache. As measured on Zen 5 at two speeds of
//! its memory, products of Q4_K and Q8_0, share of a plain read:
//!
//! | bytes per second of a thread | 4 KiB ahead | 6 KiB | 8 KiB | 12 KiB |
//! |---|---|---|---|---|
//! | 24 GB | 0.95 to 0.98 | 0.92 to 0.97 | 0.90 to 0.93 | 0.88 to 0.91 |
//! | 36 GB | 0.90 to 0.92 | 0.94 to 0.97 | 0.95 to 0.97 | 0.93 to 0.96 |

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes from a load of a stream of weights to the line that is prefetched with it.
pub(crate) const AHEAD: usize = 4096;
/// The same for a thread that is fast.
const FAR_AHEAD: usize = 7168;
/// Bytes per second from which a thread is fast: it reads [`AHEAD`] bytes in 137 ns.
const FAST: f64 = 30e9;
/// Bytes of a product below which its beginning and its end are too much of its time to tell.
const LEAST: usize = 8 << 20;

/// See the module. Results do not depend on it.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    is_fast: AtomicBool,
}

impl Pace {
    /// Bytes ahead that suit the last product.
    pub(crate) fn ahead(&self) -> usize {
        if self.is_fast.load(Ordering::Relaxed) {
            FAR_AHEAD
        } else {
            AHEAD
        }
    }

    /// Takes what a product of a step took, that `threads` read `bytes` for.
    pub(crate) fn note(&self, bytes: usize, threads: usize, took: Duration) {
        if bytes >= LEAST {
            let each = bytes as f64 / threads as f64 / took.as_secs_f64();
            let is_fast = each >= FAST;
            // Every task reads it: written only where it changes, it stays in all caches.
            if self.is_fast.load(Ordering::Relaxed) != is_fast {
                self.is_fast.store(is_fast, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_reads_faster_looks_further_ahead() {
        let pace = Pace::default();
        assert_eq!(pace.ahead(), AHEAD);
        pace.note(16 << 20, 2, Duration::from_micros(240));
        assert_eq!(pace.ahead(), FAR_AHEAD);
        // Too small to tell.
        pace.note(1 << 20, 2, Duration::from_millis(1));
        assert_eq!(pace.ahead(), FAR_AHEAD);
        pace.note(16 << 20, 4, Duration::from_micros(240));
        assert_eq!(pace.ahead(), AHEAD);
    }
}
