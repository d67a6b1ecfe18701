//! Choosing a token from logits.
//!
//! Order of the filters: repeat penalty, temperature, top-k, top-p, min-p. At temperature 0 the
//! token with the highest logit wins, the lowest id among equals; nothing is random then.

/// How to choose. Values that filter nothing: temperature 1, top-k 0, top-p 1, min-p 0, repeat
/// penalty 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleOptions {
    pub temperature: f32,
    pub top_k: usize,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    pub seed: u64,
}

/// The logits are no numbers to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("logit of token {token} is not a number; is the model damaged?")]
pub struct NotANumber {
    pub token: u32,
}

/// Tokens that the repeat penalty looks back on.
const REPEAT_WINDOW: usize = 64;

/// Chooses tokens; the same seed and logits give the same tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SampleOptions,
    random: Xoshiro,
    recent: Vec<u32>,
}

impl Sampler {
    pub fn new(options: SampleOptions) -> Self {
        Self {
            options,
            random: Xoshiro::new(options.seed),
            recent: Vec::new(),
        }
    }

    /// Chooses the next token and remembers it.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, NotANumber> {
        if let Some(token) = logits.iter().position(|logit| logit.is_nan()) {
            return Err(NotANumber {
                token: token as u32,
            });
        }
        self.penalise(logits);
        let token = if self.options.temperature == 0.0 {
            argmax(logits)
        } else {
            self.draw(logits)
        };
        if self.recent.len() == REPEAT_WINDOW {
            self.recent.remove(0);
        }
        self.recent.push(token);
        Ok(token)
    }

    /// Source: Keskar et al., CTRL, 2019, section 4.1.
    fn penalise(&self, logits: &mut [f32]) {
        let penalty = self.options.repeat_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut seen = self.recent.clone();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            let logit = &mut logits[token as usize];
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let SampleOptions {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.options;
        let keep = if top_k == 0 { logits.len() } else { top_k };
        let candidates = top(logits, keep);
        let highest = candidates[0].1;
        if highest.is_infinite() {
            return candidates[0].0;
        }
        let mut weights: Vec<(u32, f64)> = candidates
            .into_iter()
            .map(|(token, logit)| {
                (
                    token,
                    (f64::from(logit - highest) / f64::from(temperature)).exp(),
                )
            })
            .collect();
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let nucleus = weights
            .iter()
            .position(|(_, weight)| {
                sum += weight;
                sum >= f64::from(top_p) * total
            })
            .map_or(weights.len(), |last| last + 1);
        weights.truncate(nucleus);
        // The first weight is 1: min-p compares with it.
        weights.retain(|&(_, weight)| weight >= f64::from(min_p));
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.unit() * total;
        for &(token, weight) in &weights {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        weights[weights.len() - 1].0
    }
}

/// The token with the highest logit; the lowest id among equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// The `count` highest logits, highest first, the lower id among equals.
pub fn top(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut order: Vec<(u32, f32)> = logits
        .iter()
        .enumerate()
        .map(|(token, &logit)| (token as u32, logit))
        .collect();
    let higher = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < order.len() {
        order.select_nth_unstable_by(count, higher);
        order.truncate(count);
    }
    order.sort_unstable_by(higher);
    order
}

/// Negative log-likelihood of `token`, in nats.
pub fn nll(logits: &[f32], token: u32) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| f64::from(logit - highest).exp())
        .sum();
    sum.ln() - f64::from(logits[token as usize] - highest)
}

/// Source: Blackman and Vigna, xoshiro256++, 2019; seeded by SplitMix64.
#[derive(Clone, Debug)]
struct Xoshiro([u64; 4]);

impl Xoshiro {
    fn new(seed: u64) -> Self {
        let mut state = larder_pool::sim::SplitMix(seed);
        Self(std::array::from_fn(|_| state.next_u64()))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
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
    }
}
