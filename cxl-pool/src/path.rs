//! A path: one direction between two tiers, with its driver, its queues by class and its window.
//!
//! One thread owns a path and calls [`Path::step`] in a loop: take what came, cut operations of
//! the most urgent move while the window has room, start them, collect completions, check and
//! publish. Nothing here sleeps except `reap` of the driver, and time comes from the clock, so the
//! same code runs in simulation.

mod meter;
mod health;
mod counters;
mod window;
mod disk;
mod pace;
mod retry;
mod verdict;

mod bounce;
mod parts;

pub use bounce::{Bounce, STAGING_MAX};
pub use counters::PathCounters;
pub use disk::{DiskParts, Sizing};
pub use health::{DiskState, HealthCounters};
pub use meter::{DeviceMeter, DeviceTotals};
pub use parts::{Around, Outcome, PathParts};

use crate::source::{Source, bytes_due};
use crate::transfer::{
    Class, Cut, Fetch, Free, Landed, MoveError, Next, Place, Relay, StoreWant, Storing, Task,
    Transfer, Want, Work,
};
use crate::units::{BlockId, Nanos};
use bounce::{Buffer, Submit};
use disk::Flight;
use larder_sys::io::{Done, Driver, Op, Verb};
use pace::Pace;
use retry::Retries;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use verdict::verdict;

/// The files are looked at again after this time.
const CHECK_NS: u64 = 20_000_000;

/// An operation in flight.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    transfer: u64,
    place: Place,
    file: u32,
    offset: u64,
    /// Bytes that must have been moved.
    due: u64,
    len: u64,
    attempts: u8,
    flight: Flight,
}

/// See the module.
pub struct Path {
    /// First, so that it is dropped first: it drains what is in flight before extents go.
    driver: Box<dyn Driver>,
    bounce: Option<Bounce>,
    source: Box<dyn Source>,
    around: Around,
    pace: Pace,
    /// Open moves, oldest first.
    transfers: BTreeMap<u64, Transfer>,
    /// Moves that still have operations to cut, most urgent first.
    ready: BTreeSet<(Class, u64, u64)>,
    pieces: HashMap<u64, InFlight>,
    retries: Retries,
    /// Stores with pieces under way that have not been summed.
    unsummed: Vec<u64>,
    next_id: u64,
    checked_at: Option<Nanos>,
    /// Why the path takes no more stores.
    closed: Option<MoveError>,
    done: Vec<Done>,
}

impl Path {
    pub fn new(mut parts: PathParts, around: Around) -> Self {
        if let Some(bounce) = parts.bounce.as_mut() {
            bounce.copier().wakes(parts.driver.waker());
        }
        let pace = Pace::new(
            Arc::clone(&around.counters),
            parts.limit,
            parts.disk,
            around.clock.now(),
        );
        Self {
            driver: parts.driver,
            bounce: parts.bounce,
            source: parts.source,
            around,
            pace,
            transfers: BTreeMap::new(),
            ready: BTreeSet::new(),
            pieces: HashMap::new(),
            retries: Retries::new(),
            unsummed: Vec::new(),
            next_id: 0,
            checked_at: None,
            closed: None,
            done: Vec::new(),
        }
    }

    /// Takes a fetch.
    pub fn want(&mut self, want: Want) {
        let (block, class, due) = (want.block, want.class, want.due);
        let work = Work::Fetch(Box::new(Fetch::new(want, &self.around.sums)));
        self.open(block, class, due, work);
    }

    /// Takes a store, which is a relay where the target has memory; a closed path fails it at once.
    pub fn store(&mut self, want: StoreWant) {
        if let Some(error) = &self.closed {
            self.around.outcome.failed(want.fill.slot(), error.clone());
            want.fill.poison();
            return;
        }
        let (block, class, due) = (want.block, want.class, want.due);
        let space = want.fill.extent().space();
        let has_memory = space.mapping().is_some() || space.is_device();
        let work = if has_memory {
            Work::Relay(Box::new(Relay::new(want)))
        } else {
            Work::Store(Box::new(Storing::new(want)))
        };
        self.open(block, class, due, work);
    }

    /// The tier takes stores again.
    pub fn reopen(&mut self) {
        self.closed = None;
    }

    /// Takes a free.
    pub fn free(&mut self, block: BlockId, free: Free) {
        self.open(block, Class::Demote, 0, Work::Free(free));
    }

    fn open(&mut self, block: BlockId, class: Class, due: u64, work: Work) {
        let id = self.next_id;
        self.next_id += 1;
        self.ready.insert((class, due, id));
        let transfer = Transfer {
            block,
            class,
            due,
            demanded: (class == Class::Demand).then(|| self.around.clock.now()),
            in_flight: 0,
            work,
        };
        self.transfers.insert(id, transfer);
    }

    /// Makes the move into `slot` a demand.
    pub fn raise(&mut self, slot: usize) {
        let now = self.around.clock.now();
        let Some((&id, transfer)) = self.find(slot) else {
            return;
        };
        let key = (transfer.class, transfer.due, id);
        transfer.class = Class::Demand;
        transfer.demanded.get_or_insert(now);
        let raised = (Class::Demand, transfer.due, id);
        if self.ready.remove(&key) {
            self.ready.insert(raised);
        }
    }

    /// Gives the move into `slot` up: what was not submitted is dropped, the slot is absent, and
    /// the extent is free when the last operation in flight has come home.
    pub fn cancel(&mut self, slot: usize) {
        let Some((&id, transfer)) = self.find(slot) else {
            return;
        };
        let key = (transfer.class, transfer.due, id);
        drop(transfer.give_up());
        self.ready.remove(&key);
        self.settle(id);
    }

    fn find(&mut self, slot: usize) -> Option<(&u64, &mut Transfer)> {
        let mut open = self.transfers.iter_mut();
        open.find(|(_, transfer)| transfer.slot() == Some(slot))
    }

    /// Moves that have not ended.
    pub fn open_moves(&self) -> usize {
        self.transfers.len()
    }

    /// One turn: start what the window allows, wait at most `wait` for news, handle it.
    pub fn step(&mut self, wait: Duration) -> std::io::Result<()> {
        let throttle = self.submit_ready();
        self.sum_stores()?;
        let again = self.retries.wait_ns(self.around.clock.now());
        let waits = throttle.into_iter().chain(again);
        let wait = waits.map(Duration::from_nanos).fold(wait, Duration::min);
        let mut done = std::mem::take(&mut self.done);
        self.driver.reap(&mut done, wait)?;
        self.pace.note_busy(self.around.clock.now());
        self.reap_copies();
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

    /// Makes the checksums of what is being written, while the device works on it.
    fn sum_stores(&mut self) -> std::io::Result<()> {
        if self.unsummed.is_empty() {
            return Ok(());
        }
        self.driver.flush()?;
        for id in self.unsummed.drain(..) {
            let transfer = self.transfers.get_mut(&id);
            if let Some(Work::Store(store)) = transfer.map(|transfer| &mut transfer.work) {
                store.sum();
            }
        }
        Ok(())
    }

    /// Cuts and submits operations of the most urgent moves. Returns how long the limit holds the
    /// next one back, if it is the limit that does.
    fn submit_ready(&mut self) -> Option<u64> {
        self.try_again();
        while let Some(&key) = self.ready.first() {
            let now = self.around.clock.now();
            if !self.pace.has_room() || self.pieces.len() >= self.driver.depth() {
                self.pace.hold_back(now);
                return None;
            }
            let wait = self.pace.wait_ns(now);
            if wait > 0 {
                self.pace.hold_back(now);
                return Some(wait);
            }
            let (_, _, id) = key;
            let piece = self.pace.piece_bytes();
            let buffer = match &self.bounce {
                Some(bounce) => bounce.take(piece),
                None => Buffer::NotNeeded,
            };
            if matches!(buffer, Buffer::NoneFree) {
                // The next copy to complete brings a buffer; until then it is not the link.
                self.pace.ran_dry(now);
                return None;
            }
            let transfer = self.transfers.get_mut(&id).expect("a ready move is open");
            let cut = transfer.cut(piece).expect("a ready move has more to cut");
            transfer.in_flight += 1;
            if transfer.is_cut() {
                self.ready.remove(&key);
            }
            self.submit(id, cut, buffer);
        }
        self.pace.ran_dry(self.around.clock.now());
        None
    }

    fn submit(&mut self, transfer: u64, cut: Cut, buffer: Buffer) {
        let len = cut.task.len();
        let due = match &cut.task {
            Task::Drive(Verb::Read(_)) => {
                bytes_due(self.source.as_ref(), cut.file, cut.offset, len)
            }
            _ => len,
        };
        let is_write = matches!(cut.task, Task::Drive(Verb::Write(_)));
        if is_write && self.unsummed.last() != Some(&transfer) {
            self.unsummed.push(transfer);
        }
        let piece = InFlight {
            transfer,
            place: cut.place,
            file: cut.file,
            offset: cut.offset,
            due,
            len,
            attempts: 1,
            flight: self.pace.started(len, self.around.clock.now()),
        };
        self.pace.pay(len);
        let tag = self.next_id;
        self.next_id += 1;
        self.pieces.insert(tag, piece);
        match self.through(tag, cut.task, buffer) {
            Submit::Now(verb) => self.start(tag, piece, verb),
            Submit::AfterCopy => {}
        }
    }

    fn start(&mut self, tag: u64, piece: InFlight, verb: Verb) {
        let op = Op {
            tag,
            file: piece.file,
            offset: piece.offset,
            verb,
        };
        // `submit_ready` looked at the depth, and a repetition takes the place of its first try.
        self.driver
            .submit(op)
            .expect("the driver has room for `depth` operations");
    }

    /// Takes a completion; the operation comes back if it did all it should.
    fn complete(&mut self, done: Done) -> Option<(InFlight, Done)> {
        let Some(&piece) = self.pieces.get(&done.tag) else {
            unreachable!("a driver completes each operation once");
        };
        match verdict(self.source.as_ref(), &piece, &done) {
            // It stays among the pieces: nobody else may have its memory.
            Err(error) if self.retries.allows(&piece) && error.is_retryable() => {
                let now = self.around.clock.now();
                self.retries.put_off(now, done.tag, piece, done.verb);
                None
            }
            Err(error) => {
                self.pieces.remove(&done.tag);
                self.pace.ended(piece.len);
                drop((done.verb, self.take_target(done.tag)));
                self.piece_home(piece.transfer, Err(error));
                None
            }
            Ok(()) => {
                self.pieces.remove(&done.tag);
                self.retries.earn();
                if piece.attempts == 1 {
                    let now = self.around.clock.now();
                    self.pace.timed(piece.flight, piece.len, now);
                }
                self.pace.ended(piece.len);
                if piece.len > 0 {
                    self.pace.moved(piece.len);
                }
                Some((piece, done))
            }
        }
    }

    /// Checks the bytes of a piece of a fetch that is still wanted.
    fn check(&mut self, piece: &InFlight, done: Done) -> Result<(), MoveError> {
        let target = self.take_target(done.tag);
        let transfer = self
            .transfers
            .get_mut(&piece.transfer)
            .expect("pieces keep their move");
        if transfer.slot().is_none() {
            return Ok(());
        }
        let block = transfer.block;
        let (Work::Fetch(fetch), Verb::Read(bytes)) = (&mut transfer.work, done.verb) else {
            return Ok(());
        };
        let mut passed = Vec::new();
        fetch
            .arrived(piece.place, Landed { bytes, target }, &mut passed)
            .map_err(|mismatch| MoveError::Checksum {
                block,
                file: self.source.name(piece.file),
                mismatch,
            })?;
        self.pass_on(piece.transfer, passed);
        Ok(())
    }

    /// An operation of a move has come home.
    fn piece_home(&mut self, id: u64, result: Result<(), MoveError>) {
        let transfer = self.transfers.get_mut(&id).expect("pieces keep their move");
        transfer.in_flight -= 1;
        if let Err(error) = result {
            if error.is_capacity() {
                self.close(id, &error);
            } else {
                self.fail(id, error);
            }
        }
        self.settle(id);
    }

    /// Ends a move that has nothing in flight and nothing to cut, or takes it a stage further.
    fn settle(&mut self, id: u64) {
        let Some(transfer) = self.transfers.get(&id) else {
            return;
        };
        if transfer.in_flight > 0 || !transfer.is_cut() {
            return;
        }
        if let Err(error) = self.check_files(id) {
            self.fail(id, error);
        }
        let transfer = self.transfers.get_mut(&id).expect("present above");
        if transfer.advance() == Next::Again {
            self.ready.insert((transfer.class, transfer.due, id));
            return;
        }
        let transfer = self.transfers.remove(&id).expect("present above");
        let demanded = transfer.demanded;
        if transfer.publish(&self.around.sums) {
            self.pace.ended_block(demanded, self.around.clock.now());
        }
    }

    /// Poisons the slot of a move and stops cutting it.
    fn fail(&mut self, id: u64, error: MoveError) {
        let transfer = self.transfers.get_mut(&id).expect("a failing move is open");
        if let Some(fill) = transfer.give_up() {
            self.ready.remove(&(transfer.class, transfer.due, id));
            self.around.outcome.failed(fill.slot(), error);
            fill.poison();
        }
    }

    /// Takes no more stores, and fails the one that found out and those that have more to write.
    /// What is written may be sealed. Whoever sees a store fail sees the path closed too.
    fn close(&mut self, id: u64, error: &MoveError) {
        if self.closed.is_none() {
            self.closed = Some(error.clone());
            self.around.outcome.closed();
        }
        self.fail(id, error.clone());
        let has_more = |transfer: &Transfer| match &transfer.work {
            Work::Store(store) => store.has_more_to_write(),
            Work::Fetch(_) | Work::Relay(_) | Work::Free(_) => false,
        };
        let open = self.transfers.iter();
        let stores: Vec<u64> = open
            .filter(|(_, transfer)| has_more(transfer))
            .map(|(&id, _)| id)
            .collect();
        for id in stores {
            self.fail(id, error.clone());
            self.settle(id);
        }
    }

    /// Looks at the files now and then: a file that changes under us must not be served.
    fn check_files(&mut self, id: u64) -> Result<(), MoveError> {
        let Work::Fetch(fetch) = &self.transfers[&id].work else {
            return Ok(());
        };
        let now = self.around.clock.now();
        if self.checked_at.is_some_and(|at| now.since(at) < CHECK_NS) {
            return Ok(());
        }
        self.checked_at = Some(now);
        self.source
            .check(fetch.file_of(0))
            .map_err(|error| MoveError::Changed(Arc::new(error)))
    }
}

#[cfg(test)]
mod tests;
