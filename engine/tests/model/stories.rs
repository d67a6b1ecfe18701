//! The demo model tells stories: its greedy texts parse under the grammar it was trained on.

use crate::grammar::Grammar;
use crate::support::{assets, open, options};
use larder::manifest::Container;
use larder::sample::argmax;
use larder::session::GenerateOptions;
use larder::tokenizer::Tokenizer;

#[test]
fn nearly_every_greedy_story_parses() {
    let path = assets().join("larder-story.gguf");
    let container = Container::open(&path).expect("opens");
    let tokenizer = Tokenizer::open(&container)
        .expect("a good vocabulary")
        .expect("a tokenizer");
    let grammar = Grammar::read(&assets().join("stories/grammar.txt"));
    let golden = assets().join("golden/larder-story");
    let prompts = std::fs::read_to_string(golden.join("prompts.txt")).expect("prompts");
    let mut session = open(&path, &options());
    let mut bad = Vec::new();
    for prompt in prompts.lines() {
        let mut ids = tokenizer.encode(prompt, true).expect("encodes");
        let made = session
            .generate(
                &GenerateOptions {
                    prompt: &ids,
                    count: 200 - ids.len(),
                    stop: tokenizer.eos(),
                },
                |row| Ok(argmax(row)),
                |_| true,
            )
            .expect("generates");
        ids.extend(made.tokens);
        let story = tokenizer.decode(&ids).expect("decodes");
        if !grammar.parses(&story) {
            bad.push(story);
        }
    }
    let count = prompts.lines().count();
    println!("{} of {count} stories parse", count - bad.len());
    assert!(
        count >= 60 && bad.len() * 20 <= count,
        "{} do not parse: {bad:#?}",
        bad.len()
    );
}

#[test]
fn the_grammar_sees_what_is_wrong() {
    let grammar = Grammar::read(&assets().join("stories/grammar.txt"));
    let golden = assets().join("golden/larder-story/story.txt");
    let story = std::fs::read_to_string(golden).expect("golden story");
    let story = story.trim_end();
    assert!(grammar.parses(story));
    assert!(
        !grammar.parses(&story.replacen("Mira", "Otto", 1)),
        "two names"
    );
    assert!(!grammar.parses(&story[..story.len() - 1]), "cut short");
    assert!(!grammar.parses(&format!("{story} And more.")));
    assert!(!grammar.parses(""));
}
