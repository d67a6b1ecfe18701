//! The same bits whatever the budget, the threads, the passes of the prefill and the disk driver.

use crate::support::{Golden, generate, models, open, options, score_bits};
use larder::sample::argmax;
use larder::session::{GenerateOptions, SessionOptions};

#[test]
fn budgets_threads_and_chunks_change_no_bit() {
    for (name, path) in models() {
        let golden = Golden::read(name);
        let prompt: Vec<u32> = golden
            .prompt
            .iter()
            .chain(&golden.greedy)
            .copied()
            .collect();
        let count = 24;
        let free = SessionOptions {
            fast_bytes: Some(1 << 30),
            ..options()
        };
        let mut session = open(&path, &free);
        let (scored, made) = (
            score_bits(&mut session, &prompt),
            generate(&mut session, &prompt, count),
        );
        let least = session.layout().needs().min_fast_bytes();
        let all = session.layout().needs().max_useful_bytes();
        for budget in [least, u64::midpoint(least, all) / 2 * 2, all / 2, all] {
            let budget = budget.max(least);
            for (threads, is_device) in [(1, false), (2, false), (2, true)] {
                for prefill_rows in [Some(1), Some(7), Some(64), None] {
                    let fast_bytes = Some(budget);
                    let limited = SessionOptions {
                        fast_bytes,
                        threads,
                        is_device,
                        prefill_rows,
                        ..options()
                    };
                    let mut session = open(&path, &limited);
                    let case = format!("{name} {budget} {threads} {is_device} {prefill_rows:?}");
                    assert!(score_bits(&mut session, &prompt) == scored, "score {case}");
                    assert!(
                        generate(&mut session, &prompt, count) == made,
                        "generate {case}"
                    );
                    assert!(session.space().peak_bytes() <= budget, "budget {case}");
                }
            }
        }
    }
}

/// Half the weights stream on every step, and what is resident is only what fits.
#[test]
fn a_small_budget_moves_more_than_the_file_holds() {
    let (_, path) = models().pop().expect("the story model is the last");
    let golden = Golden::read("larder-story");
    let least = open(&path, &options()).layout().needs().min_fast_bytes();
    let mut session = open(
        &path,
        &SessionOptions {
            fast_bytes: Some(least),
            ..options()
        },
    );
    let (ids, _) = generate(&mut session, &golden.prompt, 24);
    assert_eq!(ids.len(), 24);
    let moved = session
        .mover()
        .counters(larder_pool::units::PathId::new(0))
        .bytes
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        moved > 20 * session.manifest().weight_bytes() / 2,
        "{moved}"
    );
    assert!(session.stager().counters().misses > 0);
    assert!(session.space().peak_bytes() <= least);
}

/// A tied head that is resident has the embedding rows too: a step reads nothing.
#[test]
fn rows_of_a_tied_head_are_not_read_again() {
    for (name, path) in models() {
        let free = SessionOptions {
            fast_bytes: Some(1 << 30),
            ..options()
        };
        let mut session = open(&path, &free);
        let config = &session.manifest().config;
        let is_tied = config.tied;
        // Experts are read as they are picked.
        if config.experts.is_some() {
            continue;
        }
        let golden = Golden::read(name);
        let generate = GenerateOptions {
            prompt: &golden.prompt,
            count: 8,
            stop: &[],
        };
        let made = session.generate(&generate, |logits| Ok(argmax(logits)), |_| true);
        let paths = made.expect("generates").decode_paths;
        let read: u64 = paths.iter().map(|path| path.bytes).sum();
        assert_eq!(read == 0, is_tied, "{name}: {read}");
    }
}

/// A session is used again and again: texts of many lengths, each as if it were the first.
#[test]
fn a_session_forgets_the_text_before() {
    let (_, path) = models().pop().expect("the story model is the last");
    let golden = Golden::read("larder-story");
    let budget = open(&path, &options()).layout().needs().min_fast_bytes() * 3 / 2;
    let limited = SessionOptions {
        fast_bytes: Some(budget),
        ..options()
    };
    let fresh = generate(&mut open(&path, &limited), &golden.prompt, 80);
    let mut session = open(&path, &limited);
    for length in [1, 100, 3, 230, 64, 65] {
        let text: Vec<u32> = (0..length).map(|i| 260 + i % 200).collect();
        generate(&mut session, &text, 5);
        score_bits(&mut session, &text);
        assert!(
            generate(&mut session, &golden.prompt, 80) == fresh,
            "after {length} tokens"
        );
    }
}
