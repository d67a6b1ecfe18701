//! Stored bytes that are brought while something else is computed.

use core::arch::x86_64::*;

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// What is left to bring, and how much at a time: prefetches in one go would fill the buffers of
/// misses, and loads behind them would wait.
pub(super) struct Coming<'a> {
    bytes: &'a [u8],
    /// Bytes of a part: whole lines.
    each: usize,
}

impl<'a> Coming<'a> {
    /// `bytes`, to be brought in `parts` equal parts.
    pub(super) fn new(bytes: &'a [u8], parts: usize) -> Self {
        let lines = bytes.len().div_ceil(LINE);
        Self {
            bytes,
            each: lines.div_ceil(parts.max(1)) * LINE,
        }
    }

    /// Prefetches the next part.
    #[inline]
    pub(super) fn part(&mut self) {
        let (part, rest) = self.bytes.split_at(self.each.min(self.bytes.len()));
        for line in part.chunks(LINE) {
            // SAFETY: a prefetch of bytes that are there.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
        self.bytes = rest;
    }
}
