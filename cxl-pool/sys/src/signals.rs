//! The signals that ask a service to stop.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

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

    /// Sleeps until one of them has come.
    pub fn wait(&self) {
        while self.0.wait() == Err(Errno::EINTR) {}
    }
}
