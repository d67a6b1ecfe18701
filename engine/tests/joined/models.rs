//! Every form of a model, on one node and nowhere else, with a spill folder and the least budget.

use crate::engine::larder;
use crate::files::asset;
use crate::ground::Ground;
use crate::trial::CONTEXT;

const COUNT: &str = "219";
const PROMPT: &str = "1,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,\
                      55,56,57,58,59,60,61,62,63,64,65,66";

fn run_of<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = [
        "run",
        model,
        "--prompt-tokens",
        PROMPT,
        "-n",
        COUNT,
        "--ignore-eos",
        "--context",
        CONTEXT,
    ];
    fixed.iter().chain(more).copied().collect()
}

#[test]
fn weights_and_kv_over_dram_nvme_and_a_node_change_no_id() {
    let ground = Ground::new(1);
    let node = ground.start(0, "48MiB");
    let remote = ground.tier(0);
    for (file, name) in [
        ("larder-story-moe.gguf", "remote://larder-story-moe"),
        ("tiny/tiny-folder", "remote://tiny-folder"),
        ("tiny/tiny-q8_0.gguf", "remote://tiny-q8_0"),
    ] {
        let path = asset(file);
        let path = path.to_str().expect("text");
        let loaded = larder(&ground, &["load", path, "--into", &remote]);
        assert!(loaded["nodes"][0]["sent_bytes"].as_u64() > Some(0));
        let again = larder(&ground, &["load", path, "--into", &remote]);
        assert_eq!(again["nodes"][0]["sent_bytes"], 0, "content is stored once");
        let free = larder(&ground, &run_of(path, &[]));
        for device in [false, true] {
            let lower = ["--tier", "nvme=spill,16MiB", "--tier", &remote];
            let mut plan = vec!["plan", name, "--context", CONTEXT, "--fast", "64MiB"];
            plan.extend(lower);
            let plan = larder(&ground, &plan);
            let least = plan["min_fast_bytes"].as_u64().expect("a number");
            let fast = if device {
                format!("hbm=sim,{least}")
            } else {
                format!("dram={least}")
            };
            let mut more = vec!["--tier", fast.as_str()];
            more.extend(lower);
            let made = larder(&ground, &run_of(name, &more));
            assert_eq!(made["tokens"], free["tokens"], "{name} {fast}");
            assert!(made["fast_bytes"].as_u64() <= Some(least), "{name} {fast}");
            let moved = |path: &str| made["bytes_moved"][path].as_u64().unwrap_or(0);
            let tier = if device { "hbm" } else { "dram" };
            assert!(
                moved(&format!("origin>{tier}")) > 0,
                "{name}: {}",
                made["bytes_moved"]
            );
            // The fastest home has the KV, the other one weights; the node has both by now.
            for path in ["remote", "nvme"] {
                let read = moved(&format!("{path}>{tier}"));
                assert!(read > 0, "{name} {path}: {}", made["bytes_moved"]);
            }
        }
    }
    let peak = node.peak_bytes();
    assert!(peak <= (48 + 100) << 20, "{peak} bytes of the node");
}
