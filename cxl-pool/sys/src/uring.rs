//! Reads and writes by io_uring: registered files, and registered buffers where memlock allows.
//!
//! Source: io_uring(7), io_uring_register(2). A slab owned by the ring holds every operation in
//! flight; the completion queue entry is the only thing that frees a slab slot.

use crate::file::SourceFile;
use crate::io::{Done, Driver, Op, Verb};
use crate::space::Space;
use crate::wake::WakeEvent;
use io_uring::{IoUring, opcode, squeue, types};
use nix::errno::Errno;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Entries of the submission queue, and operations in flight.
const DEPTH: u32 = 64;
/// Largest buffer that the kernel registers as one, in bytes.
const BUFFER_MAX: u64 = 1 << 30;
/// User data of the poll on the wake event.
const WAKE_TAG: u64 = u64::MAX;

/// See the module.
pub struct UringDriver {
    /// First, so that it is dropped first: it stops using the memory and files below.
    ring: IoUring,
    slab: Vec<Option<Op>>,
    free: Vec<u16>,
    /// Operations that the disk has no part in.
    at_once: Vec<Done>,
    wake: Arc<WakeEvent>,
    wake_armed: bool,
    /// The registered memory, cut into buffers of [`BUFFER_MAX`]; `None` if it is not registered.
    buffers: Option<Arc<Space>>,
    memory: Arc<Space>,
    files: Arc<[Arc<SourceFile>]>,
    notes: Vec<String>,
}

impl UringDriver {
    /// Sets up a ring over `files` that reads into `memory`.
    pub fn new(files: Arc<[Arc<SourceFile>]>, memory: Arc<Space>) -> io::Result<Self> {
        let ring = IoUring::builder().build(DEPTH)?;
        let fds: Vec<RawFd> = files.iter().map(|file| file.raw_fd()).collect();
        ring.submitter().register_files(&fds)?;
        let mut driver = Self {
            ring,
            slab: (0..DEPTH).map(|_| None).collect(),
            free: (0..DEPTH as u16).rev().collect(),
            at_once: Vec::new(),
            wake: WakeEvent::new()?,
            wake_armed: false,
            buffers: None,
            memory,
            files,
            notes: Vec::new(),
        };
        if let Err(error) = driver.register_memory() {
            driver.notes.push(format!(
                "buffers not registered ({error}): raise the memlock limit (ulimit -l) for them"
            ));
        }
        Ok(driver)
    }

    fn register_memory(&mut self) -> io::Result<()> {
        // Registered pages are pinned: after one went back to the kernel, the ring would write to
        // it and we would read another.
        let mapping = self.memory.mapping();
        let Some(mapping) = mapping.filter(|mapping| !mapping.may_shrink()) else {
            return Ok(());
        };
        let base = mapping.base().as_ptr();
        let iovecs: Vec<libc::iovec> = (0..mapping.len().div_ceil(BUFFER_MAX))
            .map(|index| {
                let start = index * BUFFER_MAX;
                libc::iovec {
                    iov_base: base.wrapping_add(start as usize).cast(),
                    iov_len: (mapping.len() - start).min(BUFFER_MAX) as usize,
                }
            })
            .collect();
        mapping.populate_while(|| {
            // SAFETY: the buffers are inside the mapping, which `self.memory` keeps alive until
            // after the ring (declared before it) is gone.
            unsafe { self.ring.submitter().register_buffers(&iovecs) }
        })?;
        self.buffers = Some(Arc::clone(&self.memory));
        Ok(())
    }

    /// Index of the registered buffer that holds the whole piece, if one does.
    fn buffer_of(&self, address: *const u8, len: usize) -> Option<u16> {
        let mapping = self.buffers.as_ref()?.mapping()?;
        let start = (address as u64).checked_sub(mapping.base().as_ptr() as u64)?;
        let end = start + len as u64;
        let index = start / BUFFER_MAX;
        (end <= mapping.len() && (end - 1) / BUFFER_MAX == index).then_some(index as u16)
    }

    /// The queue entry of an operation; `None` if the disk has no part in it.
    fn entry(&self, op: &Op) -> Option<squeue::Entry> {
        assert!(
            (op.file as usize) < self.files.len(),
            "file {} is registered",
            op.file
        );
        let fd = types::Fixed(op.file);
        let len = op.verb.len() as u32;
        let entry = match &op.verb {
            Verb::Read(piece) => {
                let address = piece.address().as_ptr();
                match self.buffer_of(address, piece.len()) {
                    Some(buffer) => opcode::ReadFixed::new(fd, address, len, buffer)
                        .offset(op.offset)
                        .build(),
                    None => opcode::Read::new(fd, address, len)
                        .offset(op.offset)
                        .build(),
                }
            }
            Verb::Write(piece) => {
                let address = piece.bytes().as_ptr();
                match self.buffer_of(address, piece.len()) {
                    Some(buffer) => opcode::WriteFixed::new(fd, address, len, buffer)
                        .offset(op.offset)
                        .build(),
                    None => opcode::Write::new(fd, address, len)
                        .offset(op.offset)
                        .build(),
                }
            }
            Verb::Seal(_) | Verb::Free => return None,
        };
        Some(entry)
    }

    /// Keeps a poll on the wake event in the queue.
    fn arm_wake(&mut self) {
        if self.wake_armed {
            return;
        }
        let fd = types::Fd(self.wake.raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .build()
            .user_data(WAKE_TAG);
        // SAFETY: a poll has no buffer, and the event outlives the ring.
        self.wake_armed = unsafe { self.ring.submission().push(&entry) }.is_ok();
    }

    fn collect(&mut self, done: &mut Vec<Done>) -> bool {
        let mut woken = false;
        for cqe in self.ring.completion() {
            if cqe.user_data() == WAKE_TAG {
                self.wake.clear();
                self.wake_armed = false;
                woken = true;
                continue;
            }
            let index = cqe.user_data() as u16;
            let op = self.slab[usize::from(index)]
                .take()
                .expect("a completion has its operation");
            self.free.push(index);
            let outcome = match cqe.result() {
                code if code < 0 => Err(Errno::from_raw(-code)),
                bytes => Ok(bytes as usize),
            };
            done.push(Done {
                tag: op.tag,
                verb: op.verb,
                outcome,
            });
        }
        woken
    }

    /// Enters the kernel: hands over what is queued and waits for one completion at most `wait`.
    fn enter(&mut self, wait: Duration) -> io::Result<()> {
        let result = if wait.is_zero() {
            self.ring.submit()
        } else {
            let time = types::Timespec::from(wait);
            let args = types::SubmitArgs::new().timespec(&time);
            self.ring.submitter().submit_with_args(1, &args)
        };
        match result {
            Err(error)
                if !matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

impl Driver for UringDriver {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn depth(&self) -> usize {
        DEPTH as usize - 1
    }

    fn submit(&mut self, op: Op) -> Result<(), Op> {
        // One slab slot stays free, so that the wake poll always finds an entry.
        if self.free.len() <= 1 {
            return Err(op);
        }
        let Some(entry) = self.entry(&op) else {
            self.at_once.push(Done {
                tag: op.tag,
                verb: op.verb,
                outcome: Ok(0),
            });
            return Ok(());
        };
        let index = self.free.pop().expect("checked above");
        let entry = entry.user_data(u64::from(index));
        // SAFETY: the memory lives as long as the piece, which the slab keeps until the
        // completion; nobody else writes its bytes meanwhile.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.free.push(index);
            return Err(op);
        }
        self.slab[usize::from(index)] = Some(op);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            Ok(())
        } else {
            self.enter(Duration::ZERO)
        }
    }

    fn reap(&mut self, done: &mut Vec<Done>, wait: Duration) -> io::Result<()> {
        let before = done.len();
        done.append(&mut self.at_once);
        self.arm_wake();
        self.flush()?;
        if self.collect(done) || done.len() > before || wait.is_zero() {
            return Ok(());
        }
        self.enter(wait)?;
        self.collect(done);
        Ok(())
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.wake))
    }
}

impl Drop for UringDriver {
    /// Drains the ring: the kernel may write to a target until its completion has come.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.slab.iter().any(Option::is_some) {
            if self.enter(Duration::from_millis(100)).is_err() {
                // Unable to wait for completions: give the memory up rather than reuse it.
                self.slab.drain(..).for_each(std::mem::forget);
                return;
            }
            self.collect(&mut done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::check::{reads_files, writes_files};

    fn is_refused() -> bool {
        let refused = IoUring::new(2).err();
        if let Some(error) = &refused {
            println!("skipped: io_uring refused here ({error})");
        }
        refused.is_some()
    }

    fn driver(files: Vec<Arc<SourceFile>>, memory: Arc<Space>) -> Box<dyn Driver> {
        Box::new(UringDriver::new(files.into(), memory).expect("io_uring is allowed here"))
    }

    #[test]
    fn reads_files_and_wakes() {
        if !is_refused() {
            reads_files(driver);
        }
    }

    #[test]
    fn writes_files_and_completes_seals() {
        if !is_refused() {
            writes_files(driver);
        }
    }
}
