//! The event that ends a wait on a ring from any thread.

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::task::Wake;

/// An event counter that a ring polls.
#[derive(Debug)]
pub(crate) struct WakeEvent(EventFd);

impl WakeEvent {
    pub(crate) fn new() -> std::io::Result<Arc<Self>> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Arc::new(Self(EventFd::from_value_and_flags(0, flags)?)))
    }

    /// For a poll of the ring.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd().as_raw_fd()
    }

    /// For a poll by hand.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sets the counter back.
    pub(crate) fn clear(&self) {
        let _ = self.0.read();
    }
}

impl Wake for WakeEvent {
    fn wake(self: Arc<Self>) {
        // A full counter means a wake is pending already.
        let _ = self.0.write(1);
    }
}
