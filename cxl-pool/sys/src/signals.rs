//! The signals that ask a service to stop.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use std::time::Duration;

/// SIGINT and SIGTERM, held back from the process until somebody waits for them.
#[derive(Debug)]
pub struct StopSignals(SigSet);

impl StopSignals {
    /// Holds the signals back, in this thread and in those that it starts from now on.
    pub fn block() -> std::io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block()?;
        Ok(Self(set))
    }

    /// Sleeps until one of them has come, `limit` at most; whether one has.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let time = libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        // SAFETY: the set and the time outlive the call, and nobody wants to know more of the
        // signal. An interrupted wait ends early, as one that nothing came for.
        unsafe { libc::sigtimedwait(self.0.as_ref(), std::ptr::null_mut(), &raw const time) > 0 }
    }

    /// Sleeps until one of them has come.
    pub fn wait(&self) {
        while self.0.wait() == Err(Errno::EINTR) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_the_time_or_the_signal() {
        // Blocked in this thread only, and sent to it only.
        let signals = StopSignals::block().expect("blocked");
        assert!(!signals.wait_for(Duration::from_millis(1)));
        nix::sys::signal::raise(Signal::SIGTERM).expect("sent to this thread");
        assert!(signals.wait_for(Duration::from_mins(1)));
    }
}
