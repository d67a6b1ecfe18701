//! Writes a laid-out file: every thread takes the next piece, fills it and writes it at its place.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use super::gguf::{self, Placed};
use super::random::normal_table;
use super::values::PIECE_UNIT_BYTES;

/// Bytes of one write, about 8 MiB: large enough for the disk, small enough for many threads.
const PIECE_BYTES: u64 = (8 << 20) / PIECE_UNIT_BYTES * PIECE_UNIT_BYTES;

const THREADS_MAX: usize = 8;

struct Piece<'a> {
    tensor: &'a Placed,
    /// First byte within the tensor.
    start: u64,
    bytes: usize,
}

pub(crate) fn write(file: &gguf::File, path: &Path) -> Result<()> {
    let out = File::create(path).with_context(|| format!("create {}", path.display()))?;
    out.set_len(file.bytes).context("set the length")?;
    out.write_all_at(&file.head, 0).context("write the head")?;
    let pieces: Vec<Piece> = file.tensors.iter().flat_map(pieces_of).collect();
    let normal = normal_table();
    // Relaxed: the counter only hands out each piece once; nothing else is published through it.
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        let mut buffer = Vec::new();
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            buffer.resize(piece.bytes, 0);
            piece.tensor.values.fill(&normal, piece.start, &mut buffer);
            let offset = piece.tensor.offset + piece.start;
            out.write_all_at(&buffer, offset).context("write a piece")?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"));
        results.collect::<Result<()>>()
    })?;
    out.sync_all().context("sync")
}

fn pieces_of(tensor: &Placed) -> impl Iterator<Item = Piece<'_>> {
    let starts = (0..tensor.bytes).step_by(PIECE_BYTES as usize);
    starts.map(|start| {
        let bytes = (tensor.bytes - start).min(PIECE_BYTES) as usize;
        Piece {
            tensor,
            start,
            bytes,
        }
    })
}
