//! Plain read of memory: the limit that the speed of a step is told against.

use crate::isa::Isa;
use crate::kernels::Kernels;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of one task: long enough to be linear, short enough to balance.
const TASK_BYTES: usize = 1 << 20;

impl Kernels {
    /// Sums all bytes of all parts with every thread, as fast as memory delivers them: threads meet
    /// at the end only, however small the parts are.
    ///
    /// Units: time it over bytes that no cache still has, many times what caches hold since they
    /// were read last; bytes ÷ seconds is the bandwidth.
    pub fn read_probe(&self, parts: &[&[u8]]) -> u64 {
        let tasks: Vec<&[u8]> = parts
            .iter()
            .flat_map(|part| part.chunks(TASK_BYTES))
            .collect();
        let total = AtomicU64::new(0);
        self.for_ranges(tasks.len(), 1, |task, _, _| {
            let sum = sum_bytes(self.isa, tasks[task], self.prefetches);
            total.fetch_add(sum, Ordering::Relaxed);
        });
        total.into_inner()
    }
}

fn sum_bytes(isa: Isa, bytes: &[u8], prefetches: bool) -> u64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Kernels::new` checked the CPU's flags.
        Isa::Avx2 => unsafe { crate::avx2::sum_bytes(bytes) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Kernels::new` checked the CPU's flags.
        Isa::Avx512 => unsafe { crate::avx512::vector::sum_bytes(bytes, prefetches) },
        _ => bytes.iter().map(|byte| u64::from(*byte)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool;
    use std::sync::Arc;

    #[test]
    fn sums_are_exact() {
        let bytes: Vec<u8> = (0..2_500_001_u64)
            .map(|i| (i * 7 + i / 256) as u8)
            .collect();
        let expected: u64 = bytes[1..].iter().map(|byte| u64::from(*byte)).sum();
        let pool = Arc::new(Pool::new(2));
        for isa in Isa::available() {
            let kernels = Kernels::new(isa, Arc::clone(&pool)).expect("available");
            let (first, rest) = bytes[1..].split_at(5000);
            let sum = kernels.read_probe(&[first, &[], rest]);
            assert_eq!(sum, expected, "{}", isa.name());
        }
    }
}
