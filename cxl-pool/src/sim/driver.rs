//! The driver of a simulated link to files in memory.

use super::faults::{Fault, Faults};
use super::files::MemoryFiles;
use super::random::SplitMix;
use super::timeline::Waits;
use crate::units::{BytesPerSec, Nanos};
use larder_sys::io::{Done, Driver, Errno, Op, Verb};
use larder_sys::lease::{FillPiece, ReadPiece};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Operations in flight.
const DEPTH: usize = 64;
/// How much longer a slow operation takes: the link at 1 % of its speed.
const SLOWER: u64 = 100;
/// How much later a stuck operation completes, at least and at most.
const STUCK_NS: (u64, u64) = (1_000_000_000, 20_000_000_000);

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

/// File, first byte and bytes of each read and write, in the order of submission; clones share it.
pub type OpLog = Arc<Mutex<Vec<(u32, u64, u64)>>>;

/// See the module.
pub struct SimDriver {
    files: MemoryFiles,
    time: Box<dyn Waits>,
    link: Link,
    faults: Faults,
    random: SplitMix,
    /// When the link is free again.
    free_at: Nanos,
    /// Operations in flight by completion time and order.
    in_flight: BTreeMap<(Nanos, u64), Op>,
    order: u64,
    log: OpLog,
}

impl SimDriver {
    pub fn new(files: MemoryFiles, time: impl Waits + 'static, link: Link, seed: u64) -> Self {
        let faults = Faults::default();
        faults.set_rate(Fault::Eio, link.error);
        faults.set_rate(Fault::Short, link.short);
        faults.set_rate(Fault::Flip, link.flip);
        Self {
            files,
            time: Box::new(time),
            link,
            faults,
            random: SplitMix(seed),
            free_at: Nanos::default(),
            in_flight: BTreeMap::new(),
            order: 0,
            log: OpLog::default(),
        }
    }

    /// The same with faults that are set from outside, instead of those of the link.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// What has been submitted.
    pub fn log(&self) -> OpLog {
        Arc::clone(&self.log)
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.draw(fault, &mut self.random);
        if strikes {
            self.faults.count(fault);
        }
        strikes
    }

    fn finish(&mut self, mut op: Op) -> Done {
        let fails = self.strikes(Fault::Eio);
        let outcome = match &mut op.verb {
            _ if fails => Err(Errno::EIO),
            Verb::Read(target) => Ok(self.read(op.file, op.offset, target)),
            Verb::Write(piece) => self.write(op.file, op.offset, piece),
            Verb::Seal(seal) => {
                self.files.seal(op.file, op.offset, seal.clone());
                Ok(0)
            }
            Verb::Free => {
                self.files.free(op.file, op.offset);
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
        if self.strikes(Fault::Short) {
            (self.random.next_u64() % (len as u64 + 1)) as usize
        } else {
            len
        }
    }

    fn flip_some(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() && self.strikes(Fault::Flip) {
            let bit = self.random.next_u64();
            bytes[(bit >> 3) as usize % bytes.len()] ^= 1 << (bit & 7);
        }
    }

    fn read(&mut self, file: u32, offset: u64, target: &mut FillPiece) -> usize {
        let left = self.files.len_behind(file, offset);
        let len = self.some_of(target.len().min(left as usize));
        let target = &mut target.bytes_mut()[..len];
        let is_old = self.faults.draw(Fault::OldData, &mut self.random);
        if is_old && self.files.read_old(file, offset, target) {
            self.faults.count(Fault::OldData);
        } else {
            self.files.read(file, offset, target);
        }
        self.flip_some(target);
        len
    }

    fn write(&mut self, file: u32, offset: u64, piece: &ReadPiece) -> Result<usize, Errno> {
        if self.strikes(Fault::Full) {
            return Err(Errno::ENOSPC);
        }
        let len = self.some_of(piece.len());
        let len = self.files.take_room(len)?;
        let mut bytes = piece.bytes()[..len].to_vec();
        self.flip_some(&mut bytes);
        self.files.write(file, offset, &bytes);
        Ok(len)
    }

    /// How much later than usual an operation completes that the link carries in `carried`.
    fn delay(&mut self, carried: u64) -> u64 {
        let slow = if self.strikes(Fault::Slow) {
            carried * (SLOWER - 1)
        } else {
            0
        };
        let stuck = if self.strikes(Fault::Stuck) {
            STUCK_NS.0 + self.random.next_u64() % (STUCK_NS.1 - STUCK_NS.0)
        } else {
            0
        };
        slow + stuck
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
        let len = op.verb.len() as u64;
        if len > 0 {
            self.log.lock().push((op.file, op.offset, len));
        }
        let start = self.free_at.max(self.time.now());
        let carried = (self.link.bandwidth.seconds_for(len) * 1e9) as u64;
        self.free_at = Nanos::new(start.get() + carried);
        let late = self.delay(carried + self.link.latency_ns);
        let arrives = Nanos::new(self.free_at.get() + self.link.latency_ns + late);
        self.order += 1;
        self.in_flight.insert((arrives, self.order), op);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> std::io::Result<()> {
        let limit = Nanos::new(self.time.now().get() + wait.as_nanos() as u64);
        let next = self.in_flight.first_key_value().map(|(&(at, _), _)| at);
        self.time.wait_until(next.map_or(limit, |at| at.min(limit)));
        let (now, before) = (self.time.now(), done.len());
        while let Some(entry) = self.in_flight.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let op = entry.remove();
            let one = self.finish(op);
            done.push(one);
        }
        if done.len() > before {
            self.time.wait_until(now);
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.time.waker()
    }
}
