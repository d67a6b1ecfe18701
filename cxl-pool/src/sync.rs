//! What callers and path threads meet at: the types of std and parking_lot, or, in tests with the
//! feature `explore`, those of shuttle, which chooses the schedule. Same names, same use.

#[cfg(not(all(test, feature = "explore")))]
pub(crate) use {parking_lot::Mutex, std::sync::atomic::AtomicBool};

#[cfg(all(test, feature = "explore"))]
pub(crate) use {explored::Mutex, shuttle::sync::atomic::AtomicBool};

#[cfg(all(test, feature = "explore"))]
mod explored {
    /// A mutex with parking_lot's calls.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no thread panicked")
        }
    }
}
