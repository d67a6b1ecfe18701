//! Probes on, the model on a node, and an engine that is killed: the next one starts warm from the
//! pinned heat of the first.

use crate::engine::larder;
use crate::files::{self, asset};
use crate::ground::Ground;
use crate::own_mounts;
use crate::trial::CONTEXT;
use serde_json::Value;

const PROMPT: &str = "Long ago, the cook Greta lived by the sea and counted her jars.";
/// A link of a node that makes reads cost something.
const LIMIT: &str = ",limit=20MB/s";

/// Pins of its own, in a mount namespace.
const STORY: &str = r#"
set -e
mount -t bpf bpf /sys/fs/bpf
"$0" heat start --entries 1024 > heat.txt
"$0" "$@" --turns 10000 --warm > killed.txt & pid=$!
sleep 5
kill -9 $pid
wait $pid || true
"$0" "$@" --turns 2 --warm --json > warm.json
"$0" heat --json > heat.json
"$0" heat stop > stopped.txt
"$0" "$@" --turns 2 --json > cold.json
"#;

#[test]
fn a_killed_engine_of_a_node_is_warm_again_from_pinned_heat() {
    let ground = Ground::loopback(1);
    let _node = ground.start(0, "48MiB");
    let model = asset("larder-story-moe.gguf");
    let model = model.to_str().expect("text");
    larder(&ground, &["load", model, "--into", &ground.tier(0)]);
    let text = ["-p", PROMPT, "-n", "24", "--context", CONTEXT];
    let remote = format!("{}{LIMIT}", ground.tier(0));
    let named = ["bench", "turns", "remote://larder-story-moe"];
    let tiers = ["--fast", "1000KiB", "--tier", &remote];
    let arguments = [&named[..], &text, &tiers].concat();
    let fixed = ["run", model, "--ignore-eos"];
    let free = larder(&ground, &[&fixed[..], &text].concat());

    let folder = tempfile::tempdir().expect("temp folder");
    if let Err(reason) = own_mounts::run(STORY, files::larder(), &arguments, folder.path()) {
        return println!("skipped: {reason}");
    }
    let read = |name: &str| {
        let path = folder.path().join(name);
        std::fs::read_to_string(path).expect("written")
    };
    let parsed = |name: &str| -> Value { serde_json::from_str(&read(name)).expect("an object") };
    let (warm, cold) = (parsed("warm.json"), parsed("cold.json"));
    let notes = warm["notes"].to_string();
    if notes.contains("this process only") {
        return println!("skipped: engines claim no array here ({notes})");
    }
    assert!(notes.contains("on top of earlier runs"), "{notes}");
    assert!(read("heat.txt").contains("larder_fault"), "probes are on");
    let both = format!("warm {warm}, cold {cold}");
    for report in [&warm, &cold] {
        for turn in report["turns"].as_array().expect("turns") {
            assert_eq!(turn["tokens"], free["tokens"], "{both}");
        }
    }
    for what in ["misses", "bytes"] {
        let first = |report: &Value| report["turns"][0][what].as_u64().expect("a count");
        assert!(first(&warm) < first(&cold), "{what}: {both}");
    }
    assert!(warm["warm"]["hits"].as_u64() > Some(0), "{both}");
}
