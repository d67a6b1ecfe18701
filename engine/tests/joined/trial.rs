//! What every trial has: a model that only two nodes hold, the smallest budget that works, a spill
//! folder, evictions by chance, and the ids of the free run to compare with.

use crate::engine::{Run, larder};
use crate::files::asset;
use crate::ground::{Ground, Node};
use serde_json::Value;
use std::time::Duration;

/// Tokens of a context; every model here was trained for as many at least.
pub(crate) const CONTEXT: &str = "256";
/// Long enough for KV to have left the fast tier before the first token.
const PROMPT: &str = "Once there was a cook named Mira who kept a larder under the stairs. Every \
                      morning she counted the jars on the shelf and wrote the number on a slate. \
                      One day a small mouse came in through the window and looked at the bread. \
                      Mira was not angry. She gave the mouse a piece of cheese and asked for help.";
/// Memory of a node that has room for everything.
pub(crate) const ROOMY: &str = "48MiB";

/// The two nodes of a trial, and one that may come later.
pub(crate) const FIRST: usize = 0;
pub(crate) const SECOND: usize = 1;
pub(crate) const THIRD: usize = 2;

/// A model and what its runs are like.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    /// Tokens to make: some seconds over the links of a trial.
    count: &'static str,
    /// Bytes that come from the first node in half of an undisturbed run.
    half: u64,
    /// Bytes of two slices of KV.
    slices: u64,
}

pub(crate) const DENSE: Model = Model {
    name: "larder-story",
    count: "50",
    half: 28 << 20,
    slices: 16 << 10,
};
pub(crate) const EXPERTS: Model = Model {
    name: "larder-story-moe",
    count: "120",
    half: 28 << 20,
    slices: 32 << 10,
};

/// See the module.
pub(crate) struct Trial {
    pub(crate) ground: Ground,
    pub(crate) model: Model,
    /// `dram=` or `hbm=sim,`, and the fast tier.
    kind: &'static str,
    fast: String,
    path: String,
    least: u64,
    free: Value,
}

/// Runs `test` with both models, on dram and on a simulated device, all at once.
pub(crate) fn each(test: impl Fn(&Trial) + Sync) {
    std::thread::scope(|scope| {
        for model in [DENSE, EXPERTS] {
            for is_device in [false, true] {
                let test = &test;
                scope.spawn(move || test(&Trial::new(model, is_device)));
            }
        }
    });
}

impl Trial {
    pub(crate) fn new(model: Model, is_device: bool) -> Self {
        let ground = Ground::new(3);
        let path = asset(&format!("{}.gguf", model.name));
        let path = path.to_str().expect("text").to_owned();
        let plan = ["plan", &path, "--context", CONTEXT, "--fast", "64MiB"];
        let plan = [&plan[..], &["--tier", "nvme=plan,16MiB"]].concat();
        let least = larder(&ground, &plan)["min_fast_bytes"].as_u64();
        let least = least.expect("a number of bytes");
        let kind = if is_device { "hbm=sim," } else { "dram=" };
        let mut trial = Self {
            fast: format!("{kind}{least}"),
            kind,
            ground,
            model,
            path,
            least,
            free: Value::Null,
        };
        let free = trial.arguments(&trial.path, &[]);
        trial.free = trial.read(&free);
        trial
    }

    fn read(&self, arguments: &[String]) -> Value {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        larder(&self.ground, &arguments)
    }

    /// Arguments of a run of `model`.
    fn arguments(&self, model: &str, more: &[&str]) -> Vec<String> {
        let fixed = ["run", model, "-p", PROMPT, "-n", self.model.count];
        let chance = ["--temperature", "0.9", "--seed", "3", "--ignore-eos"];
        let context = ["--context", CONTEXT];
        let all = fixed.iter().chain(&chance).chain(&context).chain(more);
        all.map(|&text| text.to_owned()).collect()
    }

    /// Starts both nodes with the model. The first has the fastest link and room for two slices of
    /// KV, so that the others go to the second.
    pub(crate) fn nodes(&self) -> (Node, Node) {
        self.nodes_with(self.model.slices)
    }

    /// As [`Self::nodes`], and the first has no room for KV.
    pub(crate) fn nodes_of_weights(&self) -> (Node, Node) {
        self.nodes_with(0)
    }

    fn nodes_with(&self, kv_bytes: u64) -> (Node, Node) {
        let second = self.ground.start(SECOND, ROOMY);
        self.load(SECOND);
        let listed = larder(&self.ground, &["ls", &self.ground.tier(SECOND)]);
        let bytes = |name: &str| listed[name].as_u64().expect("a number of bytes");
        let used = bytes("mem_bytes") - bytes("free_bytes");
        let first = self.ground.start(FIRST, &(used + kv_bytes).to_string());
        self.load(FIRST);
        (first, second)
    }

    /// Gives a node the model.
    pub(crate) fn load(&self, node: usize) {
        let tier = self.ground.tier(node);
        let loaded = larder(&self.ground, &["load", &self.path, "--into", &tier]);
        assert!(loaded["nodes"][0]["sent_bytes"].as_u64() > Some(0));
    }

    /// A run of the model that both nodes have, which the third may join.
    pub(crate) fn start(&self) -> Run<'_> {
        let tiers = [
            self.fast.clone(),
            "nvme=spill,16MiB,limit=7MB/s".to_owned(),
            format!("{},limit=10MB/s", self.ground.tier(FIRST)),
            format!("{},limit=8MB/s", self.ground.tier(SECOND)),
            format!("{},limit=9MB/s,join", self.ground.tier(THIRD)),
        ];
        self.run(&format!("remote://{}", self.model.name), &tiers)
    }

    /// A run that is shaken.
    fn run(&self, model: &str, tiers: &[String]) -> Run<'_> {
        let tiers = tiers.iter().flat_map(|tier| ["--tier", tier]);
        let more: Vec<&str> = tiers.chain(["--shake", "5"]).collect();
        let arguments = self.arguments(model, &more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Run::start(&self.ground, &arguments)
    }

    /// A run of the model's file over a link that sets the pace; only its KV leaves the host, to
    /// the first node.
    pub(crate) fn start_from_file(&self) -> Run<'_> {
        let tiers = [
            self.fast.clone(),
            "origin,limit=25MB/s".to_owned(),
            "nvme=spill,16MiB,limit=20MB/s".to_owned(),
            format!("{},limit=21MB/s", self.ground.tier(FIRST)),
        ];
        self.run(&self.path, &tiers)
    }

    /// A run of the model's file with a spill folder and nothing else, on `more` bytes than the
    /// smallest budget, shaken if there is a seed.
    pub(crate) fn start_alone(&self, more: u64, seed: Option<u64>) -> Run<'_> {
        let fast = format!("{}{}", self.kind, self.least + more);
        let seed = seed.map(|seed| seed.to_string());
        // A folder of its own: what another run kept there would be taken from it.
        let spill = format!("nvme=alone-{more}-{},16MiB", seed.is_some());
        let mut tiers = vec!["--tier", &fast, "--tier", &spill];
        tiers.extend(seed.iter().flat_map(|seed| ["--shake", seed.as_str()]));
        let arguments = self.arguments(&self.path, &tiers);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Run::start(&self.ground, &arguments)
    }

    /// A run of the model's file over a slow link with a spill folder, on `more` bytes than the
    /// smallest budget, which the stalls that file `pressure` tells may shrink.
    pub(crate) fn start_pressed(&self, more: u64, pressure: &str) -> Run<'_> {
        let fast = format!("{}{}", self.kind, self.least + more);
        let pressure = format!("--pressure={pressure}");
        let tiers = ["--tier", &fast, "--tier", "origin,limit=8MB/s", "--tier"];
        let rest = ["nvme=pressed,16MiB", &pressure];
        let arguments = self.arguments(&self.path, &[&tiers[..], &rest].concat());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Run::start(&self.ground, &arguments)
    }

    /// A run that has come to its middle.
    pub(crate) fn start_to_middle(&self) -> Run<'_> {
        self.start_to(self.model.half)
    }

    /// A run that has come to its first quarter.
    pub(crate) fn start_to_quarter(&self) -> Run<'_> {
        self.start_to(self.model.half / 2)
    }

    /// A run to which the first node has sent so many bytes.
    fn start_to(&self, bytes: u64) -> Run<'_> {
        let mut run = self.start();
        run.go_on_until(FIRST, bytes);
        run
    }

    /// Waits for the end of a run: its ids are those of the free run, within the smallest budget,
    /// and evictions by chance were among it.
    pub(crate) fn end(&self, run: Run<'_>) -> Ended {
        let ended = self.end_of(run, 0);
        let shaken = ended.report["shaken"].as_u64();
        assert!(shaken > Some(10), "{self}: {}", ended.report);
        ended
    }

    /// As [`Self::end`], within `more` bytes than the smallest budget, shaken or not.
    pub(crate) fn end_of(&self, run: Run<'_>, more: u64) -> Ended {
        let (report, time) = run.end();
        assert_eq!(report["tokens"], self.free["tokens"], "{self}: {report}");
        let budget = self.least + more;
        assert!(report["fast_bytes"].as_u64() <= Some(budget), "{self}");
        Ended { report, time }
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.model.name, self.fast)
    }
}

/// A run that ended well.
pub(crate) struct Ended {
    pub(crate) report: Value,
    /// From its start to its end.
    pub(crate) time: Duration,
}

impl Ended {
    /// Bytes that have come from `tier` to the fast one.
    pub(crate) fn from(&self, tier: &str) -> u64 {
        let moved = self.report["bytes_moved"].as_object();
        let paths = moved.expect("bytes by path").iter();
        let mut from = paths.filter(|(path, _)| path.split('>').next() == Some(tier));
        from.find_map(|(_, bytes)| bytes.as_u64()).unwrap_or(0)
    }

    /// Tokens whose KV was lost and computed again.
    pub(crate) fn recomputed(&self) -> u64 {
        let tokens = self.report["recomputed_tokens"].as_u64();
        tokens.expect("a number of tokens")
    }

    /// Times that a node was suspect, was lost, and joined.
    pub(crate) fn story(&self, node: usize) -> [u64; 3] {
        let node = &self.report["nodes"][node];
        ["suspected", "lost", "joined"].map(|what| node[what].as_u64().expect("a count"))
    }

    /// A node was silent for a while, and nothing was lost with it.
    pub(crate) fn only_waited_for(&self, node: usize) {
        let [suspected, lost, joined] = self.story(node);
        let is_kept = (lost, joined, self.recomputed()) == (0, 0, 0);
        assert!(suspected > 0 && is_kept, "{}", self.report);
    }
}
