//! Operations in flight: what the driver of a path is asked, and what it answers.
//!
//! A driver owns every operation, and with it the piece of memory that the operation writes or
//! reads, from `submit` until the completion comes out of `reap`. Nothing else frees a piece.

use crate::lease::{FillPiece, ReadPiece};
pub use nix::errno::Errno;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// What an operation does with bytes of a file, or of an object that stands for one.
#[derive(Debug)]
pub enum Verb {
    /// Fills the piece from the file.
    Read(FillPiece),
    /// Writes the piece to the file.
    Write(ReadPiece),
    /// Every byte of the object at the offset has been written: it may be read from now on.
    /// Tiers whose files need no such step complete it at once.
    Seal(Seal),
    /// Nobody reads the object at the offset any more.
    Free,
}

impl Verb {
    /// Bytes that the operation moves.
    pub const fn len(&self) -> usize {
        match self {
            Self::Read(piece) => piece.len(),
            Self::Write(piece) => piece.len(),
            Self::Seal(_) | Self::Free => 0,
        }
    }

    /// The operation moves no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Length and checksums of an object that has been written.
#[derive(Clone, Debug)]
pub struct Seal {
    pub len: u64,
    /// crc32c of each 1 MiB from the start, the last one shorter.
    pub crcs: Arc<[u32]>,
}

/// One operation at `offset` of file `file`.
#[derive(Debug)]
pub struct Op {
    /// Comes back with the completion.
    pub tag: u64,
    /// Index of the file among those the driver was made with.
    pub file: u32,
    /// First byte in the file; a multiple of the granule where the file is accessed directly.
    pub offset: u64,
    pub verb: Verb,
}

/// A completion.
#[derive(Debug)]
pub struct Done {
    pub tag: u64,
    /// What was asked, with its piece.
    pub verb: Verb,
    /// Bytes that were moved, which may be fewer than asked, or why none were.
    pub outcome: Result<usize, Errno>,
}

/// Drives operations between files and mapped memory.
///
/// One thread calls `submit` and `reap`, in any order; any thread may wake it.
pub trait Driver: Send {
    /// What stands behind, for the report.
    fn name(&self) -> &'static str;

    /// What this host did not allow, one sentence each, for the report.
    fn notes(&self) -> &[String];

    /// Operations that may be in flight at once.
    fn depth(&self) -> usize;

    /// Takes an operation; it comes back if `depth` of them are in flight.
    fn submit(&mut self, op: Op) -> Result<(), Op>;

    /// Starts what was submitted, without waiting.
    fn flush(&mut self) -> std::io::Result<()>;

    /// Starts what was submitted and appends completions to `done`. With none at hand, waits for
    /// one, for a wake or for `wait`, whichever is first.
    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> std::io::Result<()>;

    /// Ends a wait of `reap` early, from any thread.
    fn waker(&self) -> Waker;
}

/// One check for every driver.
#[cfg(test)]
pub(crate) mod check {
    use super::*;
    use crate::file::SourceFile;
    use crate::lease::SlotTable;
    use crate::mapping::Mapping;
    use crate::slot::PartRange;
    use crate::space::Space;
    use smallvec::SmallVec;
    use std::time::Instant;

    const LEN: u64 = 5 << 20;

    pub(crate) fn reads_files(open: impl Fn(Vec<Arc<SourceFile>>, Arc<Space>) -> Box<dyn Driver>) {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("data");
        let data: Vec<u8> = (0..LEN - 100).map(|i| (i * 7 + i / 255) as u8).collect();
        std::fs::write(&path, &data).expect("write");
        let memory = Space::mapped(Mapping::new(LEN).expect("memory"));
        let file = Arc::new(SourceFile::open(&path).expect("opens"));
        let mut driver = open(vec![file], Arc::clone(&memory));

        let table = SlotTable::new(1);
        let extent = memory.alloc_low(LEN).expect("room");
        let mut fill = table.begin_fill(0, extent).expect("absent");
        let mut cutter = fill.cutter();
        let (mut offset, mut arrived, mut done) = (0, 0, Vec::new());
        while arrived < data.len() {
            while cutter.left() > 0 {
                let target = cutter.cut(cutter.left().min(256 << 10));
                let len = target.len() as u64;
                match driver.submit(Op {
                    tag: offset,
                    file: 0,
                    offset,
                    verb: Verb::Read(target),
                }) {
                    Ok(()) => offset += len,
                    Err(_) => unreachable!("20 pieces fit any depth"),
                }
            }
            driver
                .reap(&mut done, Duration::from_secs(10))
                .expect("reap");
            for one in done.drain(..) {
                arrived += one.outcome.expect("read");
                let at = one.tag as usize;
                let Verb::Read(target) = one.verb else {
                    unreachable!("only reads were submitted");
                };
                let end = (at + target.len()).min(data.len());
                assert!(target.bytes()[..end - at] == data[at..end]);
            }
        }
        drop(cutter);
        let len = data.len() as u64;
        fill.publish(SmallVec::from_slice(&[PartRange { offset: 0, len }]));
        assert!(table.pin(0).expect("ready").part(0) == data);
        wakes(driver.as_mut());
    }

    fn wakes(driver: &mut dyn Driver) {
        let mut done = Vec::new();
        let waker = driver.waker();
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake_by_ref());
            driver
                .reap(&mut done, Duration::from_secs(20))
                .expect("reap");
        });
        assert!(done.is_empty() && start.elapsed() < Duration::from_secs(10));
    }

    /// Writes a block, seals and frees it; the file holds its bytes.
    pub(crate) fn writes_files(open: impl Fn(Vec<Arc<SourceFile>>, Arc<Space>) -> Box<dyn Driver>) {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("data");
        let memory = Space::mapped(Mapping::new(LEN).expect("memory"));
        let file = Arc::new(SourceFile::open_written(&path, LEN).expect("made"));
        let mut driver = open(vec![file], Arc::clone(&memory));

        let table = SlotTable::new(1);
        let extent = memory.alloc_low(LEN).expect("room");
        let mut fill = table.begin_fill(0, extent).expect("absent");
        let mut piece = fill.cutter().cut(LEN);
        let data: Vec<u8> = (0..LEN).map(|i| (i * 5 + i / 253) as u8).collect();
        piece.bytes_mut().copy_from_slice(&data);
        drop(piece);
        fill.publish(SmallVec::from_slice(&[PartRange {
            offset: 0,
            len: LEN,
        }]));
        let lease = table.pin(0).expect("ready");
        let seal = Seal {
            len: LEN,
            crcs: Arc::default(),
        };
        let writes = (0..LEN).step_by(1 << 20).map(|at| {
            let verb = Verb::Write(lease.piece(at, 1 << 20));
            (at, verb)
        });
        let ends = [(0, Verb::Seal(seal)), (0, Verb::Free)];
        for (tag, (offset, verb)) in writes.chain(ends).enumerate() {
            let op = Op {
                tag: tag as u64,
                file: 0,
                offset,
                verb,
            };
            assert!(driver.submit(op).is_ok(), "7 operations fit any depth");
        }
        let mut done = Vec::new();
        while done.len() < 7 {
            let wait = Duration::from_secs(10);
            driver.reap(&mut done, wait).expect("reap");
        }
        for one in &done {
            assert_eq!(one.outcome.expect("done"), one.verb.len());
        }
        drop(done);
        assert_eq!(table.pins(0), 1, "completed pieces let their block go");
        assert!(std::fs::read(&path).expect("read") == data);
    }
}
