//! Weights in the memory of a node of the same host, of a model that was loaded there or that went
//! home there: kernels read them where they stand, whatever happens to the node meanwhile.

use crate::engine::{Run, larder};
use crate::files::asset;
use crate::ground::{Ground, Node};
use crate::trial::CONTEXT;
use serde_json::Value;
use std::time::Duration;

const PROMPT: &str = "1,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48";
const COUNT: &str = "60";
/// Enough of them that something can happen in their middle.
const TURNS: &str = "200";

/// A node that engines reach without a forwarder, with a model.
struct Near {
    ground: Ground,
    node: Node,
    path: String,
    free: Value,
}

impl Near {
    fn new(file: &str, mem: &str) -> Self {
        let near = Self::without(file, mem);
        let load = ["load", &near.path, "--name", "m", "--into"];
        larder(&near.ground, &[&load[..], &[&near.node.tier()]].concat());
        near
    }

    fn without(file: &str, mem: &str) -> Self {
        let ground = Ground::loopback(1);
        let node = ground.start(0, mem);
        let path = asset(file).to_str().expect("text").to_owned();
        let free = larder(&ground, &run_of(&path, &[]));
        Self {
            ground,
            node,
            path,
            free,
        }
    }

    /// The smallest budget that a run of the file works in.
    fn least(&self) -> String {
        let plan = ["plan", &self.path, "--context", CONTEXT, "--fast", "64MiB"];
        larder(&self.ground, &plan)["min_fast_bytes"].to_string()
    }

    /// A packed folder of a file, with an empty node of `mem` bytes.
    fn packed(file: &str, mem: &str) -> Self {
        let near = Self::without(file, mem);
        larder(&near.ground, &["pack", &near.path, "--into", "packed"]);
        near
    }

    /// Turns of a model on the smallest budget.
    fn turns(&self, model: &str) -> Run<'_> {
        let (least, tier) = (self.least(), self.node.tier());
        let text = ["--prompt-tokens", PROMPT, "-n", COUNT, "--context", CONTEXT];
        let named = ["bench", "turns", model, "--turns", TURNS];
        let tiers = ["--fast", &least, "--tier", &tier];
        let mut run = Run::start(&self.ground, &[&named[..], &text, &tiers].concat());
        run.go_on(Duration::from_millis(700));
        run
    }

    /// All turns made what the free run did.
    fn check(&self, run: Run<'_>) {
        let (report, _) = run.end();
        let turns = report["turns"].as_array().expect("turns");
        assert_eq!(turns.len().to_string(), TURNS);
        for turn in turns {
            assert_eq!(turn["tokens"], self.free["tokens"]);
        }
    }
}

fn run_of<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let text = ["--prompt-tokens", PROMPT, "-n", COUNT, "--ignore-eos"];
    let fixed = ["run", model, "--context", CONTEXT];
    [&fixed[..], &text, more].concat()
}

#[test]
fn what_a_node_of_this_host_has_is_read_there_and_changes_no_id() {
    for file in [
        "larder-story.gguf",
        "larder-story-moe.gguf",
        "tiny/tiny-q8_0.gguf",
    ] {
        let near = Near::new(file, "48MiB");
        let (least, tier) = (near.least(), near.node.tier());
        let limited = format!("{tier},limit=200MB/s");
        let device = format!("hbm=sim,{least}");
        let here = ["--fast", &least];
        for (fast, tier, in_place) in [
            (&here[..], &tier, true),
            (&here, &limited, false),
            (&["--tier", &device], &tier, false),
        ] {
            let more = [fast, &["--tier", tier, "--shake", "7"]].concat();
            let made = larder(&near.ground, &run_of("remote://m", &more));
            let said = format!("{file} {more:?}: {made}");
            assert_eq!(made["tokens"], near.free["tokens"], "{said}");
            let read = made["in_place_bytes"].as_u64().expect("a count");
            assert_eq!(read > 0, in_place, "{said}");
            let used = made["fast_bytes"].as_u64();
            assert!(used <= least.parse().ok(), "{said}");
        }
    }
}

#[test]
fn what_is_read_in_place_stays_when_it_is_removed_and_its_room_is_wanted() {
    let near = Near::new("larder-story.gguf", "3MiB");
    let tier = near.node.tier();
    let run = near.turns("remote://m");
    let removed = near.ground.larder().args(["rm", &tier, "m"]).status();
    assert!(removed.expect("larder starts").success());
    let listed = larder(&near.ground, &["ls", &tier]);
    let bytes = |what: &str| listed[what].as_u64().expect("a count");
    let used = bytes("mem_bytes") - bytes("free_bytes");
    assert!(used > 1 << 20, "the reader's is kept: {listed}");
    let tiny = asset("tiny/tiny-q8_0.gguf");
    let tiny = tiny.to_str().expect("text");
    larder(&near.ground, &["load", tiny, "--into", &tier]);
    near.check(run);
}

#[test]
fn what_is_read_in_place_stays_when_its_node_is_killed() {
    for file in ["larder-story.gguf", "larder-story-moe.gguf"] {
        let near = Near::new(file, "48MiB");
        let run = near.turns("remote://m");
        near.node.kill();
        near.check(run);
    }
}

#[test]
fn what_goes_home_to_a_node_of_this_host_is_read_there_and_changes_no_id() {
    for file in ["larder-story.gguf", "larder-story-moe.gguf"] {
        for (mem, is_all) in [("48MiB", true), ("2MiB", false)] {
            let near = Near::packed(file, mem);
            let (least, tier) = (near.least(), near.node.tier());
            let limited = format!("{tier},limit=200MB/s,force");
            let device = format!("hbm=sim,{least}");
            let here = ["--fast", &least];
            for (fast, tier, in_place) in [
                (&here[..], &tier, true),
                (&here, &limited, false),
                (&["--tier", &device], &tier, false),
            ] {
                let lower = ["--tier", tier, "--tier", "nvme=spill,16MiB"];
                let more = [fast, &lower, &["--shake", "7"]].concat();
                let made = larder(&near.ground, &run_of("packed", &more));
                let said = format!("{file} {mem} {more:?}: {made}");
                assert_eq!(made["tokens"], near.free["tokens"], "{said}");
                let moved = |path: &str| made["bytes_moved"][path].as_u64();
                assert!(moved("dram>remote") > Some(0) || !in_place, "{said}");
                let read = made["in_place_bytes"].as_u64().expect("a count");
                assert_eq!(read > 0, in_place, "{said}");
                let used = made["fast_bytes"].as_u64();
                assert!(used <= least.parse().ok(), "{said}");
                // KV may leave, weights do not.
                let weights = moved("origin>dram").unwrap_or(0);
                assert!(!(in_place && is_all) || read > 4 * weights, "{said}");
            }
            let listed = larder(&near.ground, &["ls", &near.node.tier()]);
            assert_eq!(
                listed["mem_bytes"], listed["free_bytes"],
                "nothing stays: {listed}"
            );
        }
    }
}

#[test]
fn what_went_home_is_read_there_when_the_node_is_killed() {
    for file in ["larder-story.gguf", "larder-story-moe.gguf"] {
        let near = Near::packed(file, "48MiB");
        let run = near.turns("packed");
        near.node.kill();
        near.check(run);
    }
}
