//! What the disk gives: direct reads of 1 MiB by four threads, front to back.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const PIECE: usize = 1 << 20;
const ALIGN: usize = 4096;
const THREADS: usize = 4;
/// Source: open(2), x86_64.
const O_DIRECT: i32 = 0o40000;
/// Time of a measurement.
const LONG: Duration = Duration::from_secs(1);

/// Bytes per second of a large file.
pub(super) fn read_rate(path: &Path) -> Result<f64> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(O_DIRECT).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let len = file.metadata().context("its length")?.len() / PIECE as u64;
    let (next, read) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    let work = || -> std::io::Result<()> {
        let mut memory = vec![0; PIECE + ALIGN];
        let phase = memory.as_ptr().align_offset(ALIGN);
        while start.elapsed() < LONG {
            let at = next.fetch_add(1, Ordering::Relaxed) % len.max(1);
            let piece = &mut memory[phase..phase + PIECE];
            let count = file.read_at(piece, at * PIECE as u64)?;
            read.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    let outcome: std::io::Result<Vec<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|end| end.expect("a reader does not panic"))
            .collect()
    });
    outcome.with_context(|| format!("read {}", path.display()))?;
    Ok(read.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}
