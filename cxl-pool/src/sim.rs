//! The simulated tier: files in memory behind a link with seeded latency, bandwidth and faults.
//!
//! It implements the same traits as the disk path, so the path, the mover and the stager above it
//! are the real ones. Time is virtual: waiting moves the clock to the next completion.
//!
//! Faults it injects, each with its own probability per operation: an I/O error, fewer bytes moved
//! than asked, one flipped bit. Beside those, files may be full.

use crate::clock::{Clock, VirtualClock};
use crate::device::{Copied, Copier, Copy, CopyError, perform};
use crate::source::Source;
use crate::units::{BytesPerSec, Nanos};
use larder_sys::file::FileError;
use larder_sys::io::{Done, Driver, Errno, Op, Seal, Verb};
use larder_sys::lease::{FillPiece, ReadPiece};
use larder_sys::space::DeviceKey;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// Operations in flight.
const DEPTH: usize = 64;

/// How the link behaves.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub latency_ns: u64,
    pub bandwidth: BytesPerSec,
    /// Probabilities per operation, from 0 to 1.
    pub error: f64,
    pub short: f64,
    pub flip: f64,
}

/// Files that live in memory; clones share them.
#[derive(Clone, Debug)]
pub struct MemoryFiles(Arc<Mutex<Contents>>);

#[derive(Debug)]
struct Contents {
    files: Vec<Vec<u8>>,
    /// Bytes that may still be written; `None` has no end.
    room: Option<u64>,
    /// What was sealed and not freed, by file and offset.
    sealed: BTreeMap<(u32, u64), Seal>,
    /// Times that it was told to forget something.
    freed: u64,
}

impl MemoryFiles {
    pub fn new(files: Vec<Vec<u8>>) -> Self {
        Self(Arc::new(Mutex::new(Contents {
            files,
            room: None,
            sealed: BTreeMap::new(),
            freed: 0,
        })))
    }

    /// A copy of `len` bytes of a file.
    pub fn bytes(&self, file: u32, offset: u64, len: u64) -> Vec<u8> {
        self.0.lock().files[file as usize][offset as usize..(offset + len) as usize].to_vec()
    }

    /// Lets `bytes` more be written; after that the tier is full.
    pub fn set_room(&self, bytes: u64) {
        self.0.lock().room = Some(bytes);
    }

    /// Changes one bit behind everybody's back.
    pub fn flip(&self, file: u32, offset: u64) {
        self.0.lock().files[file as usize][offset as usize] ^= 1;
    }

    /// What was sealed at `offset` and not freed since.
    pub fn sealed(&self, file: u32, offset: u64) -> Option<Seal> {
        self.0.lock().sealed.get(&(file, offset)).cloned()
    }

    /// Times that the tier was told to forget something, sealed or not.
    pub fn freed_count(&self) -> u64 {
        self.0.lock().freed
    }

    /// Objects that are sealed now.
    pub fn sealed_count(&self) -> usize {
        self.0.lock().sealed.len()
    }
}

impl Source for MemoryFiles {
    fn name(&self, file: u32) -> String {
        format!("simulated file {file}")
    }

    fn file_len(&self, file: u32) -> u64 {
        self.0.lock().files[file as usize].len() as u64
    }

    fn check(&self, _file: u32) -> Result<(), FileError> {
        Ok(())
    }
}

/// Small generator for simulation. Source: Steele et al., SplitMix, OOPSLA 2014.
#[derive(Clone, Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.next_u64() >> 11) as f64) < p * (1u64 << 53) as f64
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(self: Arc<Self>) {}
}

/// See the module.
pub struct SimDriver {
    files: MemoryFiles,
    clock: VirtualClock,
    link: Link,
    random: SplitMix,
    /// When the link is free again.
    free_at: Nanos,
    /// Operations in flight by completion time and order.
    in_flight: BTreeMap<(Nanos, u64), Op>,
    order: u64,
}

impl SimDriver {
    pub fn new(files: MemoryFiles, clock: VirtualClock, link: Link, seed: u64) -> Self {
        let random = SplitMix(seed);
        let free_at = Nanos::default();
        Self {
            files,
            clock,
            link,
            random,
            free_at,
            in_flight: BTreeMap::new(),
            order: 0,
        }
    }

    fn finish(&mut self, mut op: Op) -> Done {
        let outcome = match &mut op.verb {
            _ if self.random.chance(self.link.error) => Err(Errno::EIO),
            Verb::Read(target) => Ok(self.read(op.file, op.offset, target)),
            Verb::Write(piece) => self.write(op.file, op.offset, piece),
            Verb::Seal(seal) => {
                let mut contents = self.files.0.lock();
                contents.sealed.insert((op.file, op.offset), seal.clone());
                Ok(0)
            }
            Verb::Free => {
                let mut contents = self.files.0.lock();
                contents.sealed.remove(&(op.file, op.offset));
                contents.freed += 1;
                Ok(0)
            }
        };
        Done {
            tag: op.tag,
            verb: op.verb,
            outcome,
        }
    }

    /// How much of `len` bytes is moved this time.
    fn some_of(&mut self, len: usize) -> usize {
        if self.random.chance(self.link.short) {
            (self.random.next_u64() % (len as u64 + 1)) as usize
        } else {
            len
        }
    }

    fn flip_some(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() && self.random.chance(self.link.flip) {
            let bit = self.random.next_u64();
            bytes[(bit >> 3) as usize % bytes.len()] ^= 1 << (bit & 7);
        }
    }

    fn read(&mut self, file: u32, offset: u64, target: &mut FillPiece) -> usize {
        let files = self.files.clone();
        let contents = files.0.lock();
        let file = &contents.files[file as usize];
        let from = (offset as usize).min(file.len());
        let len = self.some_of(target.len().min(file.len() - from));
        let target = &mut target.bytes_mut()[..len];
        target.copy_from_slice(&file[from..from + len]);
        self.flip_some(target);
        len
    }

    fn write(&mut self, file: u32, offset: u64, piece: &ReadPiece) -> Result<usize, Errno> {
        let files = self.files.clone();
        let mut contents = files.0.lock();
        let mut len = self.some_of(piece.len());
        if let Some(room) = contents.room.as_mut() {
            if *room == 0 {
                return Err(Errno::ENOSPC);
            }
            len = len.min(*room as usize);
            *room -= len as u64;
        }
        let from = offset as usize;
        let target = &mut contents.files[file as usize][from..from + len];
        target.copy_from_slice(&piece.bytes()[..len]);
        self.flip_some(target);
        Ok(len)
    }
}

impl Driver for SimDriver {
    fn name(&self) -> &'static str {
        "simulated link"
    }

    fn notes(&self) -> &[String] {
        &[]
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn submit(&mut self, op: Op) -> Result<(), Op> {
        if self.in_flight.len() == DEPTH {
            return Err(op);
        }
        let start = self.free_at.max(self.clock.now());
        let carried = self.link.bandwidth.seconds_for(op.verb.len() as u64) * 1e9;
        self.free_at = Nanos::new(start.get() + carried as u64);
        let arrives = Nanos::new(self.free_at.get() + self.link.latency_ns);
        self.order += 1;
        self.in_flight.insert((arrives, self.order), op);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> std::io::Result<()> {
        let limit = Nanos::new(self.clock.now().get() + wait.as_nanos() as u64);
        let next = self.in_flight.first_key_value().map(|(&(at, _), _)| at);
        self.clock
            .advance_to(next.map_or(limit, |at| at.min(limit)));
        let now = self.clock.now();
        while let Some(entry) = self.in_flight.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let op = entry.remove();
            let one = self.finish(op);
            done.push(one);
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::new(NoWake))
    }
}

/// A copy engine without a thread: each look at it finds some of its copies completed, in order,
/// and some of those failed.
pub struct SteppedCopier {
    key: Arc<DeviceKey>,
    queue: VecDeque<Copy>,
    random: SplitMix,
    /// Probability per copy, from 0 to 1.
    error: f64,
}

impl SteppedCopier {
    pub fn new(key: Arc<DeviceKey>, error: f64, seed: u64) -> Self {
        Self {
            key,
            queue: VecDeque::new(),
            random: SplitMix(seed),
            error,
        }
    }
}

impl Copier for SteppedCopier {
    fn name(&self) -> &'static str {
        "stepped copy engine"
    }

    fn wakes(&mut self, _waker: Waker) {}

    fn start(&mut self, copy: Copy) {
        self.queue.push_back(copy);
    }

    fn reap(&mut self, done: &mut Vec<Copied>) {
        let count = self.random.next_u64() as usize % (self.queue.len() + 1);
        for mut copy in self.queue.drain(..count) {
            let outcome = if self.random.chance(self.error) {
                Err(CopyError { status: 700 })
            } else {
                perform(&mut copy, &self.key);
                Ok(())
            };
            done.push(Copied { copy, outcome });
        }
    }
}
