//! Many seeds on all cores, and the report.

use crate::args::Args;
use crate::model::Model;
use crate::seed::{self, Outcome};
use larder_pool::sim::Fault;
use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

thread_local! {
    /// The seed that this thread runs.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Wall time of one seed after which nobody believes that it ends.
const SEED_MAX: Duration = Duration::from_mins(1);

/// From here on a broken invariant says which seed broke it and how to repeat that, and ends all.
pub(crate) fn report_failures() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        fail(SEED.get(), text.unwrap_or("a panic"), &place);
    }));
}

fn fail(seed: Option<u64>, what: &str, place: &str) -> ! {
    let line = what.replace('\n', " ");
    if let Some(seed) = seed {
        println!("seed {seed} failed: {line} ({place})");
        println!("repeat it with: cargo xtask sim --seed {seed}");
    } else {
        println!("failed: {line} ({place})");
    }
    std::process::exit(1);
}

/// What all seeds came to.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) seeds: u64,
    pub(crate) sum: Outcome,
}

impl Report {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        let sums = self.sum.faults.iter_mut();
        sums.zip(outcome.faults)
            .for_each(|(sum, count)| *sum += count);
        self.sum.done += outcome.done;
        self.sum.failed += outcome.failed;
        self.sum.virtual_ns += outcome.virtual_ns;
        self.sum.turns += outcome.turns;
        self.sum.bytes += outcome.bytes;
    }

    pub(crate) fn faults(&self) -> u64 {
        self.sum.faults.iter().sum()
    }

    pub(crate) fn print(&self, wall: Duration) {
        for fault in Fault::ALL {
            println!("{:>10}  {}", self.sum.faults[fault as usize], fault.name());
        }
        let (simulated, wall) = (self.sum.virtual_ns as f64 / 1e9, wall.as_secs_f64());
        println!(
            "{} seeds, {} faults, {} turns; {} requests ended well, {} with a typed error; \
             {} MiB compared, 0 wrong bytes",
            self.seeds,
            self.faults(),
            self.sum.turns,
            self.sum.done,
            self.sum.failed,
            self.sum.bytes >> 20
        );
        println!(
            "simulated {simulated:.0} s in {wall:.1} s: {:.0} times as fast",
            simulated / wall
        );
    }
}

/// Runs the seeds that `args` name, until one fails.
pub(crate) fn run(args: &Args, models: &[Model]) -> Report {
    let next = AtomicU64::new(args.from);
    let report = Mutex::new(Report::default());
    let running: Vec<Mutex<Option<(u64, Instant)>>> =
        (0..args.jobs).map(|_| Mutex::new(None)).collect();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = running
            .iter()
            .map(|running| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let is_enough = args.faults > 0 && report.lock().faults() >= args.faults;
                        if seed >= args.to || is_enough {
                            return;
                        }
                        *running.lock() = Some((seed, Instant::now()));
                        SEED.set(Some(seed));
                        let outcome = seed::run(seed, models);
                        SEED.set(None);
                        *running.lock() = None;
                        report.lock().add(&outcome);
                    }
                })
            })
            .collect();
        scope.spawn(|| watch(&running, &is_over));
        for worker in workers {
            let _ = worker.join();
        }
        is_over.store(true, Ordering::Release);
    });
    report.into_inner()
}

/// Ends everything if a seed does not end.
fn watch(running: &[Mutex<Option<(u64, Instant)>>], is_over: &std::sync::atomic::AtomicBool) {
    while !is_over.load(Ordering::Acquire) {
        std::thread::park_timeout(Duration::from_millis(20));
        for one in running {
            let Some((seed, since)) = *one.lock() else {
                continue;
            };
            if since.elapsed() > SEED_MAX {
                fail(
                    Some(seed),
                    "hang: a turn does not end",
                    "by the clock on the wall",
                );
            }
        }
    }
}
