//! The routers of the demo model have really learned: their picks are spread, with no favourites,
//! and change from token to token.

use crate::support::{assets, generate, open, options};
use larder::manifest::Container;
use larder::tokenizer::Tokenizer;
use std::collections::HashSet;

/// Stories to route, and tokens of each.
const STORIES: usize = 16;
const TOKENS: usize = 120;

/// Picks of one layer over many tokens.
struct LayerPicks {
    /// Times that each expert was picked.
    counts: Vec<u32>,
    /// Picks that the token before had made too, and all picks behind a first token.
    shared: usize,
    followed: usize,
    before: HashSet<usize>,
}

impl LayerPicks {
    fn new(experts: usize) -> Self {
        Self {
            counts: vec![0; experts],
            shared: 0,
            followed: 0,
            before: HashSet::new(),
        }
    }

    fn token(&mut self, picks: HashSet<usize>, is_first: bool) {
        for &expert in &picks {
            self.counts[expert] += 1;
        }
        if !is_first {
            self.shared += picks.intersection(&self.before).count();
            self.followed += picks.len();
        }
        self.before = picks;
    }

    /// Entropy of the picks, in bits.
    fn entropy(&self) -> f64 {
        let all: u32 = self.counts.iter().sum();
        let share = |count: u32| f64::from(count) / f64::from(all);
        let picked = self.counts.iter().filter(|&&count| count > 0);
        picked
            .map(|&count| -share(count) * share(count).log2())
            .sum()
    }

    /// Share of the picks that go to the quarter of the experts picked most.
    fn hottest_quarter(&self) -> f64 {
        let mut counts = self.counts.clone();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let hot: u32 = counts[..counts.len() / 4].iter().sum();
        f64::from(hot) / f64::from(counts.iter().sum::<u32>())
    }
}

#[test]
fn the_demo_model_spreads_its_picks() {
    let path = assets().join("larder-story-moe.gguf");
    let container = Container::open(&path).expect("opens");
    let tokenizer = Tokenizer::open(&container)
        .expect("a good vocabulary")
        .expect("a tokenizer");
    let mut session = open(&path, &options());
    let experts = session.manifest().config.experts.expect("has experts");
    let layers = session.manifest().config.layers;
    let first = session.manifest().program.dense_blocks();
    let mut routed: Vec<LayerPicks> = (0..layers)
        .map(|_| LayerPicks::new(experts.count))
        .collect();
    let prompts = assets().join("golden/larder-story/prompts.txt");
    let prompts = std::fs::read_to_string(prompts).expect("prompts");
    for prompt in prompts.lines().take(STORIES) {
        let ids = tokenizer.encode(prompt, true).expect("encodes");
        generate(&mut session, &ids, TOKENS);
        let (_, decode) = session.stager().record().expect("few picks");
        let steps = decode.chunks_exact(layers * experts.picked);
        for (step, blocks) in steps.enumerate() {
            for (layer, picks) in blocks.chunks_exact(experts.picked).enumerate() {
                let of_layer = first + layer * experts.count;
                let picks = picks.iter().map(|block| block.index() - of_layer).collect();
                routed[layer].token(picks, step == 0);
            }
        }
    }
    let most = (experts.count as f64).log2();
    for (layer, picks) in routed.iter().enumerate() {
        let (entropy, hottest) = (picks.entropy(), picks.hottest_quarter());
        let overlap = picks.shared as f64 / picks.followed as f64;
        println!(
            "layer {layer}: entropy {entropy:.2} of {most:.2} bits, hottest quarter {hottest:.2}, \
             shared with the token before {overlap:.2}"
        );
        assert!(picks.followed >= STORIES * (TOKENS - 2) * experts.picked);
        assert!(entropy >= 0.8 * most, "layer {layer}: entropy {entropy}");
        assert!(hottest <= 0.75, "layer {layer}: hottest quarter {hottest}");
        assert!(overlap <= 0.6, "layer {layer}: overlap {overlap}");
    }
}
