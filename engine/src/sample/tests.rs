//! Sampling against the softmax, and at its edges.

use super::*;

fn options(temperature: f32) -> SampleOptions {
    SampleOptions {
        temperature,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed: 42,
    }
}

fn counts(options: SampleOptions, logits: &[f32]) -> Vec<usize> {
    let mut sampler = Sampler::new(options);
    let mut counts = vec![0; logits.len()];
    for _ in 0..20_000 {
        let token = sampler.sample(&mut logits.to_vec()).expect("numbers");
        counts[token as usize] += 1;
    }
    counts
}

#[test]
fn temperature_zero_is_the_highest_and_lowest_id() {
    let mut sampler = Sampler::new(options(0.0));
    assert_eq!(sampler.sample(&mut [1.0, 3.0, 3.0, -1.0]), Ok(1));
    assert_eq!(sampler.sample(&mut [f32::NEG_INFINITY; 3]), Ok(0));
    let error = sampler.sample(&mut [1.0, f32::NAN]);
    assert_eq!(error, Err(NotANumber { token: 1 }));
}

/// Wherever the highest logit stands among those that are compared at once.
#[test]
fn the_highest_is_found_in_every_place() {
    let plain = |logits: &[f32]| {
        let mut best = 0;
        for (token, &logit) in logits.iter().enumerate() {
            if logit > logits[best] {
                best = token;
            }
        }
        best as u32
    };
    let mut random = Xoshiro::new(3);
    for len in [1, 2, 31, 32, 33, 64, 97, 1000] {
        let mut logits: Vec<f32> = (0..len).map(|_| (random.next() % 100) as f32).collect();
        assert_eq!(argmax(&logits), plain(&logits));
        for place in 0..len {
            let before = std::mem::replace(&mut logits[place], 100.0);
            assert_eq!(argmax(&logits), place as u32, "{len}");
            logits[place] = f32::NAN;
            let error = NotANumber {
                token: place as u32,
            };
            assert_eq!(check(&logits), Err(error), "{len}");
            logits[place] = before;
        }
        assert_eq!(check(&logits), Ok(()));
    }
    assert_eq!(argmax(&[f32::NEG_INFINITY; 40]), 0);
    assert_eq!(argmax(&[-0.0, 0.0]), 0);
}

#[test]
fn draws_follow_the_softmax() {
    let logits = [0.0f32, 1.0, 2.0];
    let counts = counts(options(1.0), &logits);
    for (token, &count) in counts.iter().enumerate() {
        let expected = (-nll(&logits, token as u32)).exp();
        let found = count as f64 / 20_000.0;
        assert!(
            (found - expected).abs() < 0.015,
            "{token}: {found} for {expected}"
        );
    }
}

#[test]
fn filters_keep_what_they_say() {
    let logits = [0.0f32, 1.0, 2.0, 3.0];
    let kept = |options| {
        let seen = counts(options, &logits);
        seen.iter().map(|&count| count > 0).collect::<Vec<_>>()
    };
    let base = options(1.0);
    assert_eq!(
        kept(SampleOptions { top_k: 2, ..base }),
        [false, false, true, true]
    );
    assert_eq!(
        kept(SampleOptions { top_p: 0.6, ..base }),
        [false, false, false, true]
    );
    assert_eq!(
        kept(SampleOptions { top_p: 0.7, ..base }),
        [false, false, true, true]
    );
    assert_eq!(
        kept(SampleOptions { min_p: 0.1, ..base }),
        [false, true, true, true]
    );
}

#[test]
fn the_repeat_penalty_turns_to_another_token() {
    let mut sampler = Sampler::new(SampleOptions {
        repeat_penalty: 2.0,
        ..options(0.0)
    });
    assert_eq!(sampler.sample(&mut [2.0, 1.5, -1.0]), Ok(0));
    assert_eq!(sampler.sample(&mut [2.0, 1.5, -1.0]), Ok(1));
    let mut sampler = Sampler::new(SampleOptions {
        repeat_penalty: 2.0,
        ..options(0.0)
    });
    sampler.remember(&[9; 3 * REPEAT_WINDOW]);
    sampler.remember(&[0]);
    assert_eq!(sampler.recent.len(), REPEAT_WINDOW);
    assert_eq!(sampler.sample(&mut [2.0, 1.5, -1.0]), Ok(1));
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let draw = |seed| {
        let mut sampler = Sampler::new(SampleOptions {
            seed,
            ..options(1.0)
        });
        (0..50)
            .map(|_| sampler.sample(&mut [0.0; 100]).expect("numbers"))
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn the_top_is_sorted_and_breaks_ties_by_id() {
    assert_eq!(
        top(&[1.0, 5.0, 5.0, 2.0], 3),
        [(1, 5.0), (2, 5.0), (3, 2.0)]
    );
    assert_eq!(top(&[1.0], 5), [(0, 1.0)]);
    let zeros = [-1.0, -0.0, 0.0];
    assert_eq!(top(&zeros, 1)[0].0, argmax(&zeros));
}

#[test]
fn likelihoods_hold_at_the_ends() {
    let (plus, minus) = (f32::INFINITY, f32::NEG_INFINITY);
    assert_eq!(nll(&[1.0, minus], 0), 0.0);
    assert_eq!(nll(&[1.0, minus], 1), f64::INFINITY);
    assert_eq!(nll(&[1.0, plus, plus], 1), 2f64.ln());
    assert_eq!(nll(&[1.0, plus], 0), f64::INFINITY);
    assert_eq!(nll(&[minus; 4], 3), 4f64.ln());
    assert_eq!(nll(&[f32::MAX, f32::MIN], 0), 0.0);
}

/// Tokens that pass, by sorting everything and looking at one after the other.
fn filter_naively(options: &SampleOptions, logits: &[f32]) -> Vec<u32> {
    let weight = |logit: f32| {
        let highest = logits[argmax(logits) as usize];
        ((f64::from(logit) - f64::from(highest)) / f64::from(options.temperature)).exp()
    };
    let count = match options.top_k {
        0 => logits.len(),
        count => count,
    };
    let order = top(logits, count);
    let total: f64 = order.iter().map(|&(_, logit)| weight(logit)).sum();
    let (mut kept, mut sum) = (Vec::new(), 0.0);
    for (token, logit) in order {
        if sum >= f64::from(options.top_p) * total && options.top_p < 1.0 {
            break;
        }
        sum += weight(logit);
        if weight(logit) >= f64::from(options.min_p) {
            kept.push(token);
        }
    }
    kept.sort_unstable();
    kept
}

proptest::proptest! {
    #[test]
    fn filters_keep_what_sorting_everything_keeps(
        logits in proptest::collection::vec(-12i8..12, 1..60),
        temperature in 0.05f32..4.0,
        top_k in 0usize..70,
        top_p in 0.001f32..1.0,
        min_p in 0.0f32..1.0,
    ) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let base = SampleOptions { top_k, ..options(temperature) };
        for options in [
            SampleOptions { top_p, ..base },
            SampleOptions { min_p, ..base },
            SampleOptions { top_p, min_p, ..base },
        ] {
            let mut found: Vec<u32> = filter(&options, &logits).iter().map(|kept| kept.0).collect();
            found.sort_unstable();
            // Where the share ends exactly on a token, the order of the sums may decide.
            let expected = filter_naively(&options, &logits);
            let differ = found.len().abs_diff(expected.len());
            proptest::prop_assert!(differ <= 1, "{found:?} for {expected:?}");
            let lesser = if found.len() < expected.len() { &found } else { &expected };
            let greater = if found.len() < expected.len() { &expected } else { &found };
            proptest::prop_assert!(lesser.iter().all(|token| greater.contains(token)));
            proptest::prop_assert!(!found.is_empty());
        }
    }
}

#[test]
fn a_big_vocabulary_is_drawn_from_in_milliseconds() {
    let logits: Vec<f32> = (0..200_000u32)
        .map(|token| (token.wrapping_mul(2_654_435_761) >> 16) as f32 / 6e3)
        .collect();
    for options in [
        options(1.0),
        SampleOptions {
            top_p: 0.9,
            ..options(0.8)
        },
        SampleOptions {
            top_k: 40,
            ..options(0.8)
        },
    ] {
        let mut sampler = Sampler::new(options);
        let start = std::time::Instant::now();
        sampler.sample(&mut logits.clone()).expect("numbers");
        println!(
            "{:?}: {:?}",
            (options.top_k, options.top_p),
            start.elapsed()
        );
    }
}
