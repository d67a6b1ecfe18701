//! What threads meet at: the types of std and parking_lot, or, in tests with the feature
//! `explore`, those of loom, which runs every schedule and every stale value that the memory
//! orderings allow. Same names, same use, so the code under test is the code that ships.

#[cfg(all(test, feature = "explore"))]
mod explored;

#[cfg(all(test, feature = "explore"))]
pub(crate) use explored::{Arc, AtomicU64, Cell, Condvar, JoinHandle, Mutex, explore, spawn_named};

#[cfg(not(all(test, feature = "explore")))]
pub(crate) use {
    parking_lot::{Condvar, Mutex},
    std::sync::Arc,
    std::sync::atomic::AtomicU64,
    std::thread::JoinHandle,
};

/// A value that several threads reach and some rule outside of it keeps apart.
#[cfg(not(all(test, feature = "explore")))]
#[derive(Debug)]
pub(crate) struct Cell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(all(test, feature = "explore")))]
impl<T> Cell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `read` with the address; it is `read`'s to know that nobody writes.
    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Calls `write` with the address; it is `write`'s to know that nobody else is there.
    #[inline]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Starts a thread with a name.
#[cfg(not(all(test, feature = "explore")))]
pub(crate) fn spawn_named(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}
