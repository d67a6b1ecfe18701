//! The same names over loom.
//!
//! Waits have no timeout here: a wake that is lost leaves a thread asleep for ever, and loom says
//! so.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) use loom::sync::Arc;
pub(crate) use loom::thread::JoinHandle;

/// A value whose readers and writers loom keeps an eye on.
#[derive(Debug)]
pub(crate) struct Cell<T>(loom::cell::UnsafeCell<T>);

impl<T> Cell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        self.0.with(read)
    }

    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(write)
    }
}

/// A mutex with parking_lot's calls.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// `None` only while a condition variable waits.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("no thread panicked")))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("not while waiting")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("not while waiting")
    }
}

/// A condition variable with parking_lot's calls.
#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.0.take().expect("not while waiting");
        guard.0 = Some(self.0.wait(inner).expect("no thread panicked"));
    }

    /// Whether time is up: never.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> bool {
        self.wait(guard);
        false
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// An atomic word that threads can sleep on as on a futex: the compare and the falling asleep are
/// one step under a lock that the waker takes too, as in the kernel.
#[derive(Debug)]
pub(crate) struct AtomicU64 {
    value: loom::sync::atomic::AtomicU64,
    sleepers: Mutex<()>,
    woken: Condvar,
}

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self {
            value: loom::sync::atomic::AtomicU64::new(value),
            sleepers: Mutex::new(()),
            woken: Condvar::default(),
        }
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.value.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.value.store(value, order);
    }

    pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.value.fetch_sub(value, order)
    }

    pub(crate) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.value.compare_exchange(current, new, success, failure)
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.value
            .compare_exchange_weak(current, new, success, failure)
    }

    /// Sleeps if the low half equals `expected`.
    pub(crate) fn sleep_while(&self, expected: u32) {
        let mut sleepers = self.sleepers.lock();
        if self.value.load(Ordering::Relaxed) as u32 == expected {
            self.woken.wait(&mut sleepers);
        }
    }

    /// Wakes everyone who sleeps.
    pub(crate) fn wake_sleepers(&self) {
        drop(self.sleepers.lock());
        self.woken.notify_all();
    }
}

/// Starts a thread with a name.
pub(crate) fn spawn_named(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    loom::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
}

/// Runs `model` under every schedule with as many forced switches of thread as the variable
/// `LOOM_MAX_PREEMPTIONS` says, two by default.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.check(model);
}
