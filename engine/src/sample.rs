//! Choosing a token from logits.
//!
//! 1. The repeat penalty changes the logits of the last tokens, prompt included.
//! 2. At temperature 0 the highest logit wins, the lowest id among equals; nothing is random.
//! 3. The temperature divides the logits; shares below are of the softmax of that.
//! 4. Top-k, then top-p of what top-k left, then min-p.
//! 5. One draw of what is left, by its weight.

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

    /// Lets the repeat penalty see tokens that were not chosen here, such as the prompt.
    pub fn remember(&mut self, tokens: &[u32]) {
        let seen = tokens.len().saturating_sub(REPEAT_WINDOW);
        self.recent.extend_from_slice(&tokens[seen..]);
        let old = self.recent.len().saturating_sub(REPEAT_WINDOW);
        self.recent.drain(..old);
    }

    /// Chooses the next token and remembers it.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, NotANumber> {
        check(logits)?;
        self.penalise(logits);
        let token = if self.options.temperature == 0.0 {
            argmax(logits)
        } else {
            self.draw(logits)
        };
        self.remember(&[token]);
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
            let Some(logit) = logits.get_mut(token as usize) else {
                continue;
            };
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let best = argmax(logits);
        if logits[best as usize].is_infinite() {
            return best;
        }
        let kept = filter(&self.options, logits);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.unit() * total;
        for &(token, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        // Rounding left a little: it belongs to the last token that can be drawn at all.
        let drawable = kept.iter().rev().find(|&&(_, weight)| weight > 0.0);
        drawable.map_or(best, |&(token, _)| token)
    }
}

/// Tokens that pass the filters, with their weights. The highest logit has weight 1.
fn filter(options: &SampleOptions, logits: &[f32]) -> Vec<(u32, f64)> {
    let highest = logits[argmax(logits) as usize];
    let temperature = f64::from(options.temperature);
    let weigh = |(token, logit): (u32, f32)| {
        (
            token,
            ((f64::from(logit) - f64::from(highest)) / temperature).exp(),
        )
    };
    let mut kept: Vec<(u32, f64)> = if (1..logits.len()).contains(&options.top_k) {
        top(logits, options.top_k).into_iter().map(weigh).collect()
    } else {
        (0..).zip(logits.iter().copied()).map(weigh).collect()
    };
    keep_nucleus(&mut kept, f64::from(options.top_p));
    kept.retain(|&(_, weight)| weight >= f64::from(options.min_p));
    kept
}

/// Keeps the heaviest tokens that make up `share` of all.
///
/// Sorting a whole vocabulary costs milliseconds a token, so the light ones go first: tokens below
/// the mean weight of what is cut off cannot weigh more than that together.
/// Source: Holtzman et al., The Curious Case of Neural Text Degeneration, 2020.
fn keep_nucleus(weights: &mut Vec<(u32, f64)>, share: f64) {
    if share >= 1.0 {
        return;
    }
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let light = (1.0 - share) * total / weights.len() as f64;
    weights.retain(|&(_, weight)| weight >= light);
    weights.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut sum = 0.0;
    let enough = weights.iter().position(|(_, weight)| {
        sum += weight;
        sum >= share * total
    });
    weights.truncate(enough.map_or(weights.len(), |last| last + 1));
}

/// Fails with the first logit that is no number.
fn check(logits: &[f32]) -> Result<(), NotANumber> {
    // A pass that stops nowhere runs on vectors; one that may stop does not.
    let is_bad = logits.iter().fold(false, |bad, logit| bad | logit.is_nan());
    let token = is_bad.then(|| logits.iter().position(|logit| logit.is_nan()));
    match token.flatten() {
        Some(token) => Err(NotANumber {
            token: token as u32,
        }),
        None => Ok(()),
    }
}

/// Logits that [`argmax`] compares at once.
const LANES: usize = 32;

/// The token with the highest logit; the lowest id among equals.
pub fn argmax(logits: &[f32]) -> u32 {
    assert!(!logits.is_empty(), "a vocabulary has tokens");
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut highest = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (highest, &logit) in highest.iter_mut().zip(chunk) {
            *highest = higher(*highest, logit);
        }
    }
    let highest = highest.into_iter().chain(rest.iter().copied());
    let highest = highest.fold(f32::NEG_INFINITY, higher);
    let is_it = |logit: &f32| *logit == highest;
    let has = |chunk: &[f32]| chunk.iter().fold(false, |has, logit| has | is_it(logit));
    let first = logits.chunks(LANES).position(has).unwrap_or(0) * LANES;
    let within = logits[first..].iter().position(is_it);
    (first + within.unwrap_or(0)) as u32
}

/// The `count` highest logits, highest first, the lower id among equals (as [`argmax`]).
pub fn top(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut order: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    // Adding 0 makes the two zeros one: `total_cmp` tells them apart.
    let higher =
        |a: &(u32, f32), b: &(u32, f32)| (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0));
    if count < order.len() {
        order.select_nth_unstable_by(count, higher);
        order.truncate(count);
    }
    order.sort_unstable_by(higher);
    order
}

/// Negative log-likelihood of `token`, in nats: 0 if it is certain, infinite if impossible.
///
/// Infinite logits share all the likelihood between them.
pub fn nll(logits: &[f32], token: u32) -> f64 {
    let highest = f64::from(logits[argmax(logits) as usize]);
    // Infinity less itself is no number; equals are no further apart than 0.
    let below = |logit: f32| {
        let logit = f64::from(logit);
        if logit == highest {
            0.0
        } else {
            logit - highest
        }
    };
    let sum: f64 = logits.iter().map(|&logit| below(logit).exp()).sum();
    sum.ln() - below(logits[token as usize])
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
mod tests;
