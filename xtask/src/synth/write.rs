//! Writes a laid-out file: every thread takes the next piece, fills it and writes it at its place.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow};

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
    out.write_all_at(&file.head, 0).context("write the head")?;
    let pieces: Vec<Piece> = file.tensors.iter().flat_map(pieces_of).collect();
    let normal = normal_table();
    // Relaxed: the counter only hands out each piece once; nothing else is published through it.
    let next = AtomicUsize::new(0);
    // The file system lets one thread in at a time; waiting here costs less than spinning there.
    let turn = Mutex::new(());
    let work = || -> Result<()> {
        let mut buffer = Vec::new();
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            buffer.resize(piece.bytes, 0);
            piece.tensor.values.fill(&normal, piece.start, &mut buffer);
            let offset = piece.tensor.offset + piece.start;
            let _writing = turn.lock().map_err(|_| anyhow!("another thread failed"))?;
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
    // Only now: ext4 writes faster behind the end of a file than into a hole.
    out.set_len(file.bytes).context("set the length")?;
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

#[cfg(test)]
mod tests {
    use super::super::shape::Shape;
    use super::super::values::ValueType;
    use super::*;

    #[test]
    fn the_file_is_the_layout_filled_in_one_go() {
        let folder = std::env::temp_dir().join(format!("xtask-synth-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a writable folder");
        let shape = Shape::named("tiny").expect("a name of the table");
        let file = gguf::layout(&shape, ValueType::Q8_0, 7);
        write(&file, &folder.join("model.gguf")).expect("written");
        let found = std::fs::read(folder.join("model.gguf")).expect("readable");
        std::fs::remove_dir_all(&folder).expect("removable");

        let mut want = file.head.clone();
        want.resize(file.bytes as usize, 0);
        let normal = normal_table();
        for tensor in &file.tensors {
            let (start, bytes) = (tensor.offset as usize, tensor.bytes as usize);
            tensor
                .values
                .fill(&normal, 0, &mut want[start..start + bytes]);
        }
        assert!(found == want, "the bytes differ");
    }
}
