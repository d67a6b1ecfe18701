//! Reads in flight: what a driver of the disk path is asked, and what it answers.
//!
//! A driver owns every operation, and with it the [`FillPiece`] that the operation writes, from
//! `submit` until the completion comes out of `reap`. Nothing else frees a target.

use crate::file::SourceFile;
use crate::lease::FillPiece;
use crate::pread::PreadDriver;
use crate::space::Space;
use crate::uring::UringDriver;
pub use nix::errno::Errno;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// One read: `target.len()` bytes of file `file` at `offset`.
#[derive(Debug)]
pub struct ReadOp {
    /// Comes back with the completion.
    pub tag: u64,
    /// Index of the file among those the driver was made with.
    pub file: u16,
    /// First byte in the file; a multiple of the granule where the file is read directly.
    pub offset: u64,
    pub target: FillPiece,
}

/// A completion.
#[derive(Debug)]
pub struct Done {
    pub tag: u64,
    pub target: FillPiece,
    /// Bytes that arrived, which may be fewer than asked, or why none did.
    pub outcome: Result<usize, Errno>,
}

/// Drives reads from files into mapped memory.
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
    fn submit(&mut self, op: ReadOp) -> Result<(), ReadOp>;

    /// Starts what was submitted, without waiting.
    fn flush(&mut self) -> std::io::Result<()>;

    /// Starts what was submitted and appends completions to `done`. With none at hand, waits for
    /// one, for a wake or for `wait`, whichever is first.
    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> std::io::Result<()>;

    /// Ends a wait of `reap` early, from any thread.
    fn waker(&self) -> Waker;
}

/// The fastest driver that this host allows: io_uring, else a few threads that call pread.
pub fn open_driver(files: Vec<Arc<SourceFile>>, memory: &Arc<Space>) -> Box<dyn Driver> {
    let files: Arc<[Arc<SourceFile>]> = files.into();
    match UringDriver::new(Arc::clone(&files), Arc::clone(memory)) {
        Ok(driver) => Box::new(driver),
        Err(error) => Box::new(PreadDriver::new(
            &files,
            vec![format!("no io_uring ({error}): pread threads")],
        )),
    }
}

/// One check for every driver.
#[cfg(test)]
pub(crate) mod check {
    use super::*;
    use crate::lease::SlotTable;
    use crate::mapping::Mapping;
    use crate::slot::PartRange;
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
                match driver.submit(ReadOp {
                    tag: offset,
                    file: 0,
                    offset,
                    target,
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
                let end = (at + one.target.len()).min(data.len());
                assert!(one.target.bytes()[..end - at] == data[at..end]);
            }
        }
        drop(cutter);
        let len = data.len() as u64;
        fill.publish(SmallVec::from_slice(&[PartRange { offset: 0, len }]));
        assert!(table.pin(0).expect("ready").part(0) == data);

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
}
