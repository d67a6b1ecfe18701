//! Performance events that carry the address of the data, and programs on them.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::call::{Command, bpf_fd, halves};

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: u64 = 1 << 3;
/// `PERF_SAMPLE_ADDR`: the address of the data goes with each sample.
const SAMPLE_ADDRESS: u64 = 1 << 3;
/// `precise_ip` within the flags of `struct perf_event_attr`.
const PRECISE_SHIFT: u32 = 15;
/// `exclude_kernel` and `exclude_hv`: addresses of user space only.
const USER_ONLY: u64 = 1 << 5 | 1 << 6;
/// `BPF_PERF_EVENT`.
const ATTACH_PERF_EVENT: u32 = 41;

/// What an event counts, in the words of `struct perf_event_attr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfEvent {
    /// `PERF_TYPE_`, or the number in a unit's file `type`.
    pub kind: u32,
    pub config: u64,
    pub config1: u64,
    /// Events per sample.
    pub period: u64,
    /// 0 to 3: how near to the instruction the sample must be.
    pub precise: u32,
    pub is_user_only: bool,
}

impl PerfEvent {
    /// Page faults of user space, kernel software.
    pub const fn page_faults(period: u64) -> Self {
        Self {
            kind: 1,
            config: 2,
            config1: 0,
            period,
            precise: 0,
            is_user_only: true,
        }
    }

    /// A classic tracepoint by the number in its file `id`.
    pub const fn tracepoint(id: u64) -> Self {
        Self {
            kind: 2,
            config: id,
            config1: 0,
            period: 1,
            precise: 0,
            is_user_only: false,
        }
    }
}

/// Whom an event watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerfScope {
    /// Every process, on this processor.
    Processor(u32),
    /// One process, wherever it runs; zero is the calling one.
    Process(u32),
}

/// Opens an event, which counts from now on.
pub fn perf_event(event: PerfEvent, scope: PerfScope) -> Result<OwnedFd, Errno> {
    let mut attribute = [0u64; 16];
    attribute[0] = halves(event.kind, size_of_val(&attribute) as u32);
    attribute[1] = event.config;
    attribute[2] = event.period;
    attribute[3] = SAMPLE_ADDRESS;
    let user = if event.is_user_only { USER_ONLY } else { 0 };
    attribute[5] = u64::from(event.precise & 3) << PRECISE_SHIFT | user;
    attribute[7] = event.config1;
    let (process, processor) = match scope {
        PerfScope::Processor(processor) => (-1, i64::from(processor)),
        PerfScope::Process(process) => (i64::from(process), -1),
    };
    // SAFETY: the kernel reads the attribute, whose size stands in it, during the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attribute.as_ptr(),
            process,
            processor,
            -1i64,
            CLOSE_ON_EXEC,
        )
    };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Runs `program` at each sample of `event`, as long as the link lives; it keeps both alive.
pub fn link_perf(program: BorrowedFd<'_>, event: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let words = [
        halves(program.as_raw_fd() as u32, event.as_raw_fd() as u32),
        halves(ATTACH_PERF_EVENT, 0),
    ];
    // SAFETY: the attribute holds no addresses.
    unsafe { bpf_fd(Command::LinkCreate, words) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn own_page_faults_can_be_counted_without_privileges() {
        match perf_event(PerfEvent::page_faults(1 << 20), PerfScope::Process(0)) {
            Ok(event) => {
                // It is an event and no program, so linking it to itself is refused.
                let refused = link_perf(event.as_fd(), event.as_fd());
                assert!(refused.is_err());
            }
            Err(errno) => println!("skipped: perf_event_open: {errno}"),
        }
    }

    #[test]
    fn events_that_do_not_exist_are_refused() {
        let event = PerfEvent {
            kind: 0x7fff_ffff,
            ..PerfEvent::page_faults(1)
        };
        assert!(perf_event(event, PerfScope::Process(0)).is_err());
    }
}
