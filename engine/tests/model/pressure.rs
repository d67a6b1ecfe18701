//! A budget that shrinks and grows between steps: the same bits, and nothing in use beyond it.

use crate::support::{assets, generate, open, options, score_bits};
use larder::pressure::{Gauge, Reading};
use larder::sample::argmax;
use larder::session::{GenerateOptions, LowerTier, Session, SessionOptions};
use larder_pool::clock::{Clock, VirtualClock};
use larder_pool::sim::SplitMix;
use larder_pool::units::Nanos;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Between two readings.
const TICK: Duration = Duration::from_millis(1500);
/// More than any margin.
const PLENTY: Option<u64> = Some(1 << 40);

/// What a gauge tells at its n-th reading, and whether tasks were stalled since the one before.
type Script = Box<dyn FnMut(u64) -> (Option<u64>, bool)>;

/// A gauge with a clock of its own, which moves with every reading.
struct MadeUp {
    clock: VirtualClock,
    script: Script,
    readings: u64,
    stalled: Duration,
}

impl Gauge for MadeUp {
    fn read(&mut self) -> Reading {
        self.readings += 1;
        let now = TICK.as_nanos() as u64 * self.readings;
        self.clock.advance_to(Nanos::new(now));
        let (room, is_stalled) = (self.script)(self.readings);
        if is_stalled {
            self.stalled += TICK;
        }
        Reading {
            room,
            stalled: self.stalled,
        }
    }
}

fn watch(session: &mut Session, script: Script) {
    let clock = VirtualClock::default();
    let gauge = MadeUp {
        clock: clock.clone(),
        script,
        readings: 0,
        stalled: Duration::ZERO,
    };
    session.watch_pressure(Box::new(gauge), Arc::new(clock) as Arc<dyn Clock>);
}

/// Stalls that take an eighth, no room at all, and calm, by chance.
fn by_chance(seed: u64) -> Script {
    let mut random = SplitMix(seed);
    Box::new(move |_| match random.next_u64() % 8 {
        0 | 1 => (None, true),
        2 => (Some(0), false),
        _ => (PLENTY, false),
    })
}

fn shrinking(fast_bytes: u64, spill: Option<&Path>, rows: Option<usize>) -> SessionOptions {
    let nvme = spill.map(|folder| LowerTier::Nvme {
        folder: folder.to_owned(),
        bytes: 64 << 20,
        limit: None,
    });
    SessionOptions {
        fast_bytes: Some(fast_bytes),
        lower: nvme.into_iter().collect(),
        prefill_rows: rows,
        may_shrink: true,
        ..options()
    }
}

fn prompt() -> Vec<u32> {
    (0..150).map(|i| 260 + (i * 11) % 240).collect()
}

#[test]
fn pressure_at_any_step_changes_no_bit() {
    let folder = tempfile::tempdir().expect("temp folder");
    let spill = folder.path().join("spill");
    for name in ["larder-story.gguf", "larder-story-moe.gguf"] {
        let model = assets().join(name);
        let mut free = open(&model, &options());
        let scored = score_bits(&mut free, &prompt());
        let made = generate(&mut free, &prompt(), 60);
        for spill in [None, Some(spill.as_path())] {
            let all = shrinking(1 << 30, spill, None);
            let needs = open(&model, &all).layout().needs().clone();
            let (least, most) = (needs.min_fast_bytes(), 1 << 30);
            for budget in [least, least + (200 << 10), least + (700 << 10), most] {
                for (seed, rows) in [(1, Some(16)), (2, None), (3, Some(3))] {
                    let case = format!("{name} {} {budget} {rows:?}", spill.is_some());
                    let mut session = open(&model, &shrinking(budget, spill, rows));
                    watch(&mut session, by_chance(seed));
                    assert!(score_bits(&mut session, &prompt()) == scored, "{case}");
                    // The second one begins like the first, under another budget.
                    for _ in 0..2 {
                        assert!(generate(&mut session, &prompt(), 60) == made, "{case}");
                    }
                    assert!(session.space().peak_bytes() <= budget, "{case}");
                    let (story, lowest) = session.pressure().expect("watched");
                    let has_give = session.layout().least_bytes() + (100 << 10) < budget;
                    assert!(!has_give || story.shrunk > 5, "{case}: {story:?}");
                    assert!(lowest >= session.layout().least_bytes(), "{case}");
                    assert!(lowest <= session.layout().space_bytes, "{case}");
                }
            }
        }
    }
}

/// While there is no room, no more is in use than the least that works; when there is room again,
/// it is used again.
#[test]
fn what_is_in_use_follows_the_budget_down_and_up() {
    let folder = tempfile::tempdir().expect("temp folder");
    let spill = folder.path().join("spill");
    for name in ["larder-story.gguf", "larder-story-moe.gguf"] {
        for spill in [None, Some(spill.as_path())] {
            let case = format!("{name} {}", spill.is_some());
            let options = shrinking(1 << 30, spill, None);
            let mut session = open(&assets().join(name), &options);
            let frame = session.layout().needs().kv.frame_bytes();
            let least = session.layout().least_bytes() + frame;
            // One reading at the start, one for the prefill, then one for each token.
            let script = |reading| {
                let is_short = (12..30).contains(&reading);
                (if is_short { Some(0) } else { PLENTY }, false)
            };
            watch(&mut session, Box::new(script));
            let space = Arc::clone(session.space());
            let mut used = Vec::new();
            let pick = |logits: &mut [f32]| {
                used.push(space.used_bytes());
                Ok(argmax(logits))
            };
            let ask = GenerateOptions {
                prompt: &prompt(),
                count: 60,
                stop: &[],
            };
            session.generate(&ask, pick, |_| true).expect("generates");
            let before = used[8];
            assert!(before > least, "{case}: {before} of {least}");
            for (step, &used) in used.iter().enumerate().take(27).skip(13) {
                assert!(used <= least, "{case}: {used} of {least} at step {step}");
            }
            let after = *used.last().expect("60 steps");
            // Not every expert is asked for again in so few steps.
            assert!(after > least, "{case}: {after} of {before}");
            let (story, lowest) = session.pressure().expect("watched");
            assert!((1..4).contains(&story.shrunk), "{case}: {story:?}");
            assert!(lowest < least, "{case}");
        }
    }
}
