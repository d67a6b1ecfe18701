//! A path: one direction between two tiers, with its driver, its queues by class and its window.
//!
//! One thread owns a path and calls [`Path::step`] in a loop: take what came, cut pieces of the
//! most urgent move while the window has room, start them, collect completions, check and publish.
//! Nothing here sleeps except `reap` of the driver, and time comes from the clock, so the same
//! code runs in simulation.

use crate::checksum::BlockSums;
use crate::clock::Clock;
use crate::limit::TokenBucket;
use crate::source::{Source, bytes_due};
use crate::transfer::{Class, CutPiece, MoveError, Place, Transfer, Want};
use crate::units::{BlockId, BytesPerSec, GRANULE, Nanos};
use larder_sys::io::{Done, Driver, Errno, Op, Verb};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Piece and window bounds, in bytes. Measured: 512 KiB to 1 MiB pieces and a window of 4 MiB are
/// best on disks; deeper windows only add latency to a demand.
const PIECE_MIN: u64 = 16 << 10;
const PIECE_MAX: u64 = 1 << 20;
const WINDOW_MAX: u64 = 4 << 20;
/// Time whose worth of bytes a window and a piece hold at most.
const QUANTUM_S: f64 = 4e-3;
/// Bandwidth assumed until it has been measured.
const BANDWIDTH_GUESS: f64 = 1e9;
/// Busy time after which the measured bandwidth is believed.
const MEASURED_NS: u64 = 20_000_000;
/// Reads of one piece before its move fails.
const ATTEMPTS: u8 = 3;
/// The files are looked at again after this time.
const CHECK_NS: u64 = 20_000_000;

/// What a path has done, read by anybody at any time.
#[derive(Debug, Default)]
pub struct PathCounters {
    pub bytes: AtomicU64,
    pub pieces: AtomicU64,
    /// Time in which the window was full or the limit held the path back.
    pub busy_ns: AtomicU64,
    /// Bytes that arrived in that time.
    pub busy_bytes: AtomicU64,
    pub blocks: AtomicU64,
}

impl PathCounters {
    /// Bytes per second while the path was busy, if it was long enough to tell.
    pub fn bandwidth(&self) -> Option<f64> {
        let busy = self.busy_ns.load(Ordering::Relaxed);
        let bytes = self.busy_bytes.load(Ordering::Relaxed);
        (busy >= MEASURED_NS).then(|| bytes as f64 / (busy as f64 / 1e9))
    }
}

/// Tells others what became of a move.
pub trait Outcome: Send {
    fn failed(&self, slot: usize, error: MoveError);
}

/// A piece in flight.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    transfer: u64,
    place: Place,
    file: u32,
    offset: u64,
    due: u64,
    len: u64,
    attempts: u8,
}

/// See the module.
pub struct Path {
    driver: Box<dyn Driver>,
    source: Box<dyn Source>,
    clock: Arc<dyn Clock>,
    outcome: Box<dyn Outcome>,
    counters: Arc<PathCounters>,
    bucket: Option<TokenBucket>,
    limit: Option<BytesPerSec>,
    transfers: HashMap<u64, Transfer>,
    /// Moves that still have pieces to cut, most urgent first.
    ready: BTreeSet<(Class, u64, u64)>,
    pieces: HashMap<u64, InFlight>,
    in_flight_bytes: u64,
    next_id: u64,
    sums: HashMap<BlockId, BlockSums>,
    checked_at: Option<Nanos>,
    /// Since when the path has been held back by its window or limit.
    busy_since: Option<Nanos>,
    done: Vec<Done>,
}

impl Path {
    pub fn new(
        driver: Box<dyn Driver>,
        source: Box<dyn Source>,
        clock: Arc<dyn Clock>,
        outcome: Box<dyn Outcome>,
        counters: Arc<PathCounters>,
        limit: Option<BytesPerSec>,
    ) -> Self {
        let now = clock.now();
        Self {
            driver,
            source,
            clock,
            outcome,
            counters,
            bucket: limit.map(|rate| TokenBucket::new(rate, now)),
            limit,
            transfers: HashMap::new(),
            ready: BTreeSet::new(),
            pieces: HashMap::new(),
            in_flight_bytes: 0,
            next_id: 0,
            sums: HashMap::new(),
            checked_at: None,
            busy_since: None,
            done: Vec::new(),
        }
    }

    /// Takes a move.
    pub fn want(&mut self, want: Want) {
        let (transfer, count) = Transfer::new(want);
        if count > 0 {
            self.sums
                .entry(transfer.block)
                .or_default()
                .resize(count, None);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.ready.insert((transfer.class, transfer.due, id));
        self.transfers.insert(id, transfer);
    }

    /// Makes the move into `slot` a demand.
    pub fn raise(&mut self, slot: usize) {
        let Some((&id, transfer)) = self.find(slot) else {
            return;
        };
        let key = (transfer.class, transfer.due, id);
        transfer.class = Class::Demand;
        let raised = (Class::Demand, transfer.due, id);
        if self.ready.remove(&key) {
            self.ready.insert(raised);
        }
    }

    /// Gives the move into `slot` up: what was not submitted is dropped, the slot is absent, and
    /// the extent is free when the last piece in flight has come home.
    pub fn cancel(&mut self, slot: usize) {
        let Some((&id, transfer)) = self.find(slot) else {
            return;
        };
        let key = (transfer.class, transfer.due, id);
        drop(transfer.give_up());
        let idle = transfer.in_flight == 0;
        self.ready.remove(&key);
        if idle {
            self.transfers.remove(&id);
        }
    }

    fn find(&mut self, slot: usize) -> Option<(&u64, &mut Transfer)> {
        self.transfers.iter_mut().find(|(_, transfer)| {
            transfer
                .fill
                .as_ref()
                .is_some_and(|fill| fill.slot() == slot)
        })
    }

    /// Moves that have not ended.
    pub fn open_moves(&self) -> usize {
        self.transfers.len()
    }

    /// One turn: start what the window allows, wait at most `wait` for news, handle it.
    pub fn step(&mut self, wait: Duration) -> std::io::Result<()> {
        let throttle = self.submit_ready();
        let wait = throttle.map_or(wait, |ns| wait.min(Duration::from_nanos(ns)));
        let mut done = std::mem::take(&mut self.done);
        self.driver.reap(&mut done, wait)?;
        self.note_busy();
        let mut whole: Vec<(InFlight, Done)> = Vec::with_capacity(done.len());
        for one in done.drain(..) {
            whole.extend(self.complete(one));
        }
        self.done = done;
        // The device gets its next pieces before this thread looks at the last ones.
        self.submit_ready();
        self.driver.flush()?;
        for (piece, one) in whole {
            let checked = self.check(&piece, one);
            self.piece_home(piece.transfer, checked);
        }
        Ok(())
    }

    fn bandwidth(&self) -> f64 {
        let measured = self.counters.bandwidth().unwrap_or(BANDWIDTH_GUESS);
        self.limit.map_or(measured, BytesPerSec::get)
    }

    fn piece_bytes(&self) -> u64 {
        let quantum = (self.bandwidth() * QUANTUM_S) as u64 / GRANULE * GRANULE;
        quantum.clamp(PIECE_MIN, PIECE_MAX)
    }

    fn window_bytes(&self) -> u64 {
        let piece = self.piece_bytes();
        ((self.bandwidth() * QUANTUM_S) as u64).clamp(2 * piece, WINDOW_MAX.max(2 * piece))
    }

    /// Cuts and submits pieces of the most urgent moves. Returns how long the limit holds the next
    /// piece back, if it is the limit that does.
    fn submit_ready(&mut self) -> Option<u64> {
        let (piece, window) = (self.piece_bytes(), self.window_bytes());
        while let Some(&key) = self.ready.first() {
            if self.in_flight_bytes + piece > window || self.pieces.len() >= self.driver.depth() {
                self.hold_back();
                return None;
            }
            let now = self.clock.now();
            let wait = self.bucket.as_mut().map_or(0, |bucket| bucket.wait_ns(now));
            if wait > 0 {
                self.hold_back();
                return Some(wait);
            }
            let (_, _, id) = key;
            let transfer = self.transfers.get_mut(&id).expect("a ready move is open");
            let cut = transfer.cut(piece).expect("a ready move has pieces to cut");
            transfer.in_flight += 1;
            if transfer.is_cut() {
                self.ready.remove(&key);
            }
            self.submit(id, cut);
        }
        // Nothing more to start: busy only while the window is still full.
        if self.in_flight_bytes + piece <= window {
            self.note_busy();
            self.busy_since = None;
        }
        None
    }

    fn hold_back(&mut self) {
        if self.busy_since.is_none() {
            self.busy_since = Some(self.clock.now());
        }
    }

    /// Adds the time since the last look to the busy time.
    fn note_busy(&mut self) {
        let Some(since) = self.busy_since else { return };
        let now = self.clock.now();
        self.counters
            .busy_ns
            .fetch_add(now.since(since), Ordering::Relaxed);
        self.busy_since = Some(now);
    }

    fn submit(&mut self, transfer: u64, cut: CutPiece) {
        let len = cut.target.len() as u64;
        let due = bytes_due(self.source.as_ref(), cut.file, cut.offset, len);
        let piece = InFlight {
            transfer,
            place: cut.place,
            file: cut.file,
            offset: cut.offset,
            due,
            len,
            attempts: 1,
        };
        if let Some(bucket) = self.bucket.as_mut() {
            bucket.take(len);
        }
        let tag = self.next_id;
        self.next_id += 1;
        self.start(
            piece,
            Op {
                tag,
                file: cut.file,
                offset: cut.offset,
                verb: Verb::Read(cut.target),
            },
        );
    }

    fn start(&mut self, piece: InFlight, op: Op) {
        self.in_flight_bytes += piece.len;
        self.pieces.insert(op.tag, piece);
        // `submit_ready` looked at the depth, and a repeated read takes the place of its first try.
        self.driver
            .submit(op)
            .expect("the driver has room for `depth` operations");
    }

    /// Takes a completion; the piece comes back if it has arrived whole.
    fn complete(&mut self, done: Done) -> Option<(InFlight, Done)> {
        let Some(piece) = self.pieces.remove(&done.tag) else {
            unreachable!("a driver completes each operation once");
        };
        self.in_flight_bytes -= piece.len;
        let verdict = match done.outcome {
            Ok(bytes) if bytes as u64 >= piece.due => Ok(()),
            Ok(bytes) => Err(MoveError::Short {
                file: self.source.name(piece.file),
                offset: piece.offset,
                len: piece.due,
                found: bytes as u64,
            }),
            Err(errno) => Err(MoveError::Read {
                file: self.source.name(piece.file),
                offset: piece.offset,
                len: piece.due,
                errno,
            }),
        };
        match verdict {
            Err(error) if piece.attempts < ATTEMPTS && is_retryable(&error) => {
                let again = InFlight {
                    attempts: piece.attempts + 1,
                    ..piece
                };
                let op = Op {
                    tag: done.tag,
                    file: piece.file,
                    offset: piece.offset,
                    verb: done.verb,
                };
                self.start(again, op);
                None
            }
            Err(error) => {
                drop(done.verb);
                self.piece_home(piece.transfer, Err(error));
                None
            }
            Ok(()) => {
                self.counters.bytes.fetch_add(piece.len, Ordering::Relaxed);
                self.counters.pieces.fetch_add(1, Ordering::Relaxed);
                if self.busy_since.is_some() {
                    self.counters
                        .busy_bytes
                        .fetch_add(piece.len, Ordering::Relaxed);
                }
                Some((piece, done))
            }
        }
    }

    /// Checks the bytes of a piece of a move that is still wanted.
    fn check(&mut self, piece: &InFlight, done: Done) -> Result<(), MoveError> {
        let transfer = self
            .transfers
            .get_mut(&piece.transfer)
            .expect("pieces keep their move");
        if transfer.fill.is_none() {
            return Ok(());
        }
        let Verb::Read(target) = done.verb else {
            unreachable!("a read comes back as one");
        };
        let block = transfer.block;
        let sums = self.sums.entry(block).or_default();
        transfer
            .arrived(piece.place, target, sums)
            .map_err(|mismatch| MoveError::Checksum {
                block,
                file: self.source.name(transfer.file_of(piece.place.run)),
                mismatch,
            })
    }

    /// One piece of a move has come home; ends the move if it was the last.
    fn piece_home(&mut self, id: u64, result: Result<(), MoveError>) {
        let transfer = self.transfers.get_mut(&id).expect("pieces keep their move");
        transfer.in_flight -= 1;
        if let Err(error) = result {
            self.fail(id, error);
        }
        let transfer = &self.transfers[&id];
        if transfer.in_flight > 0 || !transfer.is_cut() {
            return;
        }
        if let Err(error) = self.check_files(id) {
            self.fail(id, error);
        }
        let transfer = self.transfers.remove(&id).expect("present above");
        if transfer.fill.is_some() {
            self.counters.blocks.fetch_add(1, Ordering::Relaxed);
            transfer.publish();
        }
    }

    /// Poisons the slot of a move and stops cutting it.
    fn fail(&mut self, id: u64, error: MoveError) {
        let transfer = self.transfers.get_mut(&id).expect("a failing move is open");
        self.ready.remove(&(transfer.class, transfer.due, id));
        if let Some(fill) = transfer.give_up() {
            self.outcome.failed(fill.slot(), error);
            fill.poison();
        }
    }

    /// Looks at the files now and then: a file that changes under us must not be served.
    fn check_files(&mut self, id: u64) -> Result<(), MoveError> {
        let now = self.clock.now();
        if self.checked_at.is_some_and(|at| now.since(at) < CHECK_NS) {
            return Ok(());
        }
        self.checked_at = Some(now);
        let transfer = &self.transfers[&id];
        self.source
            .check(transfer.file_of(0))
            .map_err(|error| MoveError::Changed(Arc::new(error)))
    }
}

/// A second try may help: the device was busy, or the read came back short.
fn is_retryable(error: &MoveError) -> bool {
    match error {
        MoveError::Read { errno, .. } => {
            matches!(
                errno,
                Errno::EAGAIN | Errno::EINTR | Errno::EIO | Errno::EBUSY
            )
        }
        MoveError::Short { found, .. } => *found > 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
