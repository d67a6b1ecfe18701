//! Pages of a mapping by several threads at once: the kernel clears them, which takes one thread
//! seconds for some gigabytes, and more where a host gives a guest its memory only then.

use super::Mapping;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

/// What one call populates, in bytes: whole huge pages, and soon over when nothing else is left.
const CHUNK: u64 = 32 << 20;
/// Threads that help, at most: some cores clear pages as fast as memory takes them.
const HELPERS_MAX: usize = 8;

impl Mapping {
    /// Runs `pin`, which makes the kernel populate the mapping front to back, while other threads
    /// populate it back to front. When `pin` returns they stop, whether it went well or not.
    pub(crate) fn populate_while<T>(&self, pin: impl FnOnce() -> T) -> T {
        let chunks = self.len() / CHUNK;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let helpers = (cores - 1).min(HELPERS_MAX).min(chunks as usize / 2);
        let left = AtomicU64::new(chunks);
        thread::scope(|scope| {
            for _ in 0..helpers {
                let helper = thread::Builder::new().name("larder-pages".to_owned());
                // Without a helper it only takes longer.
                let _ = helper.spawn_scoped(scope, || self.populate_backwards(&left));
            }
            let pinned = pin();
            left.store(0, Relaxed);
            pinned
        })
    }

    /// Takes the last of the chunks that are `left` until none is, or the kernel refuses.
    fn populate_backwards(&self, left: &AtomicU64) {
        let take = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        while let Ok(left) = take() {
            if !self.populate((left - 1) * CHUNK) {
                return;
            }
        }
    }

    /// Populates the chunk at `start`; `false` if the kernel does not, as before Linux 5.14.
    ///
    /// Source: madvise(2), `MADV_POPULATE_WRITE`: no contents change, whoever writes meanwhile.
    fn populate(&self, start: u64) -> bool {
        assert!(start + CHUNK <= self.len(), "inside the mapping");
        // SAFETY: `start` < the length of the mapping, asserted above.
        let first = unsafe { self.base().add(start as usize) };
        // SAFETY: the chunk is inside this mapping, asserted above. The advice populates page
        // tables as a write fault would, but writes nothing.
        let code = unsafe {
            libc::madvise(
                first.as_ptr().cast(),
                CHUNK as usize,
                libc::MADV_POPULATE_WRITE,
            )
        };
        code == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_meanwhile_stays_and_the_rest_is_zero() {
        let bytes = 4 * CHUNK + 4096;
        let mapping = Mapping::new(bytes).expect("memory");
        let base = mapping.base();
        let words = bytes as usize / 8;
        let written = mapping.populate_while(|| {
            for word in (0..words).step_by(512) {
                // SAFETY: a fresh mapping of `bytes` bytes, in which nobody else reads or writes.
                unsafe { base.cast::<u64>().add(word).write(word as u64) };
            }
            words
        });
        assert_eq!(written, words);
        for word in 0..words {
            // SAFETY: as above.
            let value = unsafe { base.cast::<u64>().add(word).read() };
            let expected = if word % 512 == 0 { word as u64 } else { 0 };
            assert_eq!(value, expected, "word {word}");
        }
    }

    #[test]
    fn helpers_populate_what_nobody_touches() {
        let mapping = Mapping::new(2 * CHUNK).expect("memory");
        let left = AtomicU64::new(2);
        mapping.populate_backwards(&left);
        let mut pages = vec![0u8; 2 * CHUNK as usize / 4096];
        // SAFETY: the range is this mapping's own, and there is a byte for each of its pages.
        let code = unsafe {
            libc::mincore(
                mapping.base().as_ptr().cast(),
                2 * CHUNK as usize,
                pages.as_mut_ptr(),
            )
        };
        assert_eq!(code, 0, "mincore of our own range");
        if left.into_inner() != 0 {
            println!("skipped: this kernel populates no pages");
            return;
        }
        assert!(pages.iter().all(|page| page & 1 == 1));
    }
}
