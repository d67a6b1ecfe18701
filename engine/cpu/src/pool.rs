//! Persistent worker threads that share the tasks of one operation.
//!
//! Life of a run:
//! 1. The caller writes the job (closure, number of tasks) and publishes `unclaimed`.
//! 2. Caller and workers claim tasks by decrementing `unclaimed`, so tasks start in order.
//! 3. Who finds no more takes what it has done off `unfinished`; the last one wakes the caller.
//! 4. The caller returns. Workers that never woke up claimed nothing and are not waited for.
//!
//! Both sides spin for a few microseconds and then park: a spin that never ends loses a factor
//! of ten as soon as another process holds one of the cores.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long a waiter polls before it parks. What is computed between two products by one thread
/// takes up to 15 us; a worker that has parked comes 60 us late, and waking it takes the caller 25.
const SPIN: Duration = Duration::from_micros(20);

/// The same for a worker that was never left longer for [`KEEN`] runs: 70 us pass between two
/// tokens of a model in memory. Where weights are waited for, it is milliseconds, and others can
/// use the processor.
const SPIN_KEEN: Duration = Duration::from_micros(100);
const KEEN: u32 = 16;

/// Threads of one pool; more is a mistake in the caller's arithmetic.
const THREADS_MAX: usize = 1024;

/// Persistent workers; the thread that calls [`Pool::run`] is worker 0.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One run at a time; held for the whole run.
    runs: Mutex<()>,
}

/// A closure without its type, on the stack of the thread that runs it.
struct Job {
    call: unsafe fn(*const (), usize, usize),
    data: *const (),
    tasks: usize,
}

/// On a cache line of its own: cores that do not share a cache need a quarter of a microsecond to
/// take one from each other. Two lines, because they are fetched in pairs.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// What a worker claims from.
struct Claims {
    /// The job of the current run. Valid while `unfinished` is above zero.
    job: AtomicPtr<Job>,
    /// Tasks that nobody took yet. Release by the caller, acquire by the claim.
    unclaimed: AtomicUsize,
}

struct Shared {
    claims: Padded<Claims>,
    /// Tasks that did not end yet. The decrements release, the caller's load acquires.
    unfinished: Padded<AtomicUsize>,
    /// Parked workers; pairs with `unclaimed` (store, then load, on both sides).
    sleepers: AtomicUsize,
    /// The caller is parked; pairs with `unfinished` in the same way.
    caller_sleeps: AtomicBool,
    stop: AtomicBool,
    idle: Mutex<()>,
    work: Condvar,
    done: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls `ready` for at most `longest`; tells whether it came true.
///
/// Reads the clock: a count of iterations would be off by ten between CPUs whose pause differs.
fn spin_until(longest: Duration, ready: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..16 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > longest {
            return false;
        }
    }
}

impl Pool {
    /// Starts `threads - 1` workers; with one thread every run is inline.
    ///
    /// Panics if `threads` is 0 or above 1024, or the OS refuses a thread.
    pub fn new(threads: usize) -> Self {
        assert!(
            (1..=THREADS_MAX).contains(&threads),
            "{threads} threads, expected 1..=1024"
        );
        let shared = Arc::new(Shared {
            claims: Padded(Claims {
                job: AtomicPtr::new(ptr::null_mut()),
                unclaimed: AtomicUsize::new(0),
            }),
            unfinished: Padded(AtomicUsize::new(0)),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            idle: Mutex::new(()),
            work: Condvar::new(),
            done: Condvar::new(),
            panic: Mutex::new(None),
        });
        let start = |worker: usize| {
            let shared = Arc::clone(&shared);
            Builder::new()
                .name(format!("larder-cpu-{worker}"))
                .spawn(move || shared.serve(worker))
        };
        // A host without a thread left computes with those that it has.
        let workers = (1..threads).map(start).map_while(Result::ok).collect();
        Self {
            shared,
            workers,
            runs: Mutex::new(()),
        }
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(task, worker)` once for each task in `0..tasks` and returns when all have ended.
    ///
    /// Tasks start in ascending order. At most one task runs per worker at a time, so `worker`
    /// (below [`Pool::threads`]) may index per-thread scratch. A panic in a task is raised again
    /// here after the others have ended. Must not be called from inside a task.
    pub fn run<F: Fn(usize, usize) + Sync>(&self, tasks: usize, f: F) {
        let _run = lock(&self.runs);
        if self.workers.is_empty() || tasks <= 1 {
            for task in 0..tasks {
                f(task, 0);
            }
            return;
        }
        /// # Safety
        /// `data` points to a live `F`.
        unsafe fn call<F: Fn(usize, usize)>(data: *const (), task: usize, worker: usize) {
            // SAFETY: the caller passes a pointer to a live `F`.
            let f = unsafe { &*data.cast::<F>() };
            f(task, worker);
        }
        let mut job = Job {
            call: call::<F>,
            data: (&raw const f).cast(),
            tasks,
        };
        let shared = &*self.shared;
        shared.unfinished.store(tasks, Ordering::Relaxed);
        shared.claims.job.store(&raw mut job, Ordering::Relaxed);
        shared.claims.unclaimed.store(tasks, Ordering::SeqCst);
        shared.wake_workers(tasks - 1);
        shared.run_tasks(0);
        shared.wait_finished();
        if let Some(payload) = lock(&shared.panic).take() {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.idle));
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            drop(worker.join());
        }
    }
}

impl Shared {
    fn serve(&self, worker: usize) {
        let ready =
            || self.claims.unclaimed.load(Ordering::SeqCst) > 0 || self.stop.load(Ordering::SeqCst);
        let mut soon = 0;
        loop {
            self.run_tasks(worker);
            let start = Instant::now();
            let longest = if soon < KEEN { SPIN } else { SPIN_KEEN };
            if !spin_until(longest, ready) {
                let mut guard = lock(&self.idle);
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                while !ready() {
                    guard = self
                        .work
                        .wait(guard)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                drop(guard);
                if start.elapsed() > SPIN_KEEN {
                    soon = 0;
                }
            }
            soon = (soon + 1).min(KEEN);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn wake_workers(&self, wanted: usize) {
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers == 0 {
            return;
        }
        // A worker between its last look at `unclaimed` and its wait holds this lock.
        drop(lock(&self.idle));
        for _ in 0..wanted.min(sleepers) {
            self.work.notify_one();
        }
    }

    /// Takes and runs tasks until none is left.
    fn run_tasks(&self, worker: usize) {
        let take = |left: usize| left.checked_sub(1);
        let mut done = 0;
        while let Ok(left) =
            self.claims
                .unclaimed
                .fetch_update(Ordering::Acquire, Ordering::Relaxed, take)
        {
            // SAFETY: a claimed task keeps `unfinished` above zero until `finish` below, and the
            // caller leaves the frame that owns the job and its closure only at zero; no other job
            // is published before. The claim's acquire makes the job's fields visible.
            let outcome = unsafe {
                let job = &*self.claims.job.load(Ordering::Relaxed);
                let task = job.tasks - left;
                catch_unwind(AssertUnwindSafe(|| (job.call)(job.data, task, worker)))
            };
            if let Err(payload) = outcome {
                lock(&self.panic).get_or_insert(payload);
            }
            done += 1;
        }
        if done > 0 {
            self.finish(done);
        }
    }

    fn finish(&self, done: usize) {
        let is_last = self.unfinished.fetch_sub(done, Ordering::SeqCst) == done;
        if is_last && self.caller_sleeps.load(Ordering::SeqCst) {
            drop(lock(&self.idle));
            self.done.notify_one();
        }
    }

    fn wait_finished(&self) {
        let finished = || self.unfinished.load(Ordering::SeqCst) == 0;
        if spin_until(SPIN, finished) {
            return;
        }
        let mut guard = lock(&self.idle);
        self.caller_sleeps.store(true, Ordering::SeqCst);
        while !finished() {
            guard = self
                .done
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.caller_sleeps.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in 1..=4 {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 3, 7, 64, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |task, worker| {
                    assert!(worker < threads);
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == 1)
                );
            }
        }
    }

    #[test]
    fn many_short_runs_from_many_callers() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for run in 0..2000 {
                        let tasks = run % 5;
                        pool.run(tasks, |task, _| {
                            sum.fetch_add(task + 1, Ordering::Relaxed);
                        });
                        if run % 200 == 0 {
                            // long enough for the workers to give up spinning and park
                            let start = Instant::now();
                            while start.elapsed() < 6 * SPIN {
                                std::thread::yield_now();
                            }
                        }
                    }
                });
            }
        });
        // each five runs add 0 + 1 + 3 + 6 + 10
        assert_eq!(sum.load(Ordering::Relaxed), 3 * 400 * 20);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2);
        for bad in [0, 5, 9] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(10, |task, _| assert_ne!(task, bad, "task failed"));
            }));
            assert!(outcome.is_err());
            let ran = AtomicUsize::new(0);
            pool.run(10, |_, _| {
                ran.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(ran.load(Ordering::Relaxed), 10);
        }
    }
}
