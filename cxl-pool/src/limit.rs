//! Token bucket: a path that carries at most so many bytes per second.

use crate::units::{BytesPerSec, Nanos};

/// Time whose worth of tokens the bucket holds at most.
const BURST_NS: f64 = 4e6;

/// See the module. May go into debt by one piece, so pieces of any size pass.
#[derive(Debug)]
pub struct TokenBucket {
    rate: BytesPerSec,
    tokens: f64,
    filled: Nanos,
}

impl TokenBucket {
    /// An empty bucket that fills from `now`.
    pub fn new(rate: BytesPerSec, now: Nanos) -> Self {
        Self {
            rate,
            tokens: 0.0,
            filled: now,
        }
    }

    fn fill(&mut self, now: Nanos) {
        let earned = self.rate.get() * now.since(self.filled) as f64 / 1e9;
        let most = self.rate.get() * BURST_NS / 1e9;
        self.tokens = (self.tokens + earned).min(most);
        self.filled = self.filled.max(now);
    }

    /// Nanoseconds until the next piece may start; zero if it may now.
    pub fn wait_ns(&mut self, now: Nanos) -> u64 {
        self.fill(now);
        if self.tokens >= 0.0 {
            return 0;
        }
        (-self.tokens / self.rate.get() * 1e9).ceil() as u64
    }

    /// Pays for a piece that starts now.
    pub fn take(&mut self, bytes: u64) {
        self.tokens -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time_whatever_the_piece_size() {
        for piece in [4096u64, 65_536, 1 << 20] {
            let rate = BytesPerSec::new(20e6).expect("positive");
            let mut bucket = TokenBucket::new(rate, Nanos::default());
            let (mut now, mut sent) = (Nanos::default(), 0u64);
            while sent < 40_000_000 {
                now = Nanos::new(now.get() + bucket.wait_ns(now));
                bucket.take(piece);
                sent += piece;
            }
            let measured = (sent - piece) as f64 / (now.get() as f64 / 1e9);
            assert!((measured / 20e6 - 1.0).abs() < 0.01, "{piece}: {measured}");
        }
    }

    #[test]
    fn an_idle_bucket_saves_up_no_more_than_its_burst() {
        let rate = BytesPerSec::new(1e6).expect("positive");
        let mut bucket = TokenBucket::new(rate, Nanos::default());
        assert_eq!(bucket.wait_ns(Nanos::new(3_600_000_000_000)), 0);
        bucket.take(104_000);
        let wait = bucket.wait_ns(Nanos::new(3_600_000_000_000));
        assert_eq!(wait, 100_000_000, "4 ms of the hour were saved");
    }
}
