//! What an operator types around a run: doctor, topo, config, man, heat, bench.

#![forbid(unsafe_code)]

mod own_mounts;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_larder");

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Exit code and standard error, which has one line of ours.
fn fails(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    let error = String::from_utf8(output.stderr).expect("text");
    let lines = error.lines().filter(|line| line.starts_with("larder: "));
    assert_eq!(lines.count(), 1, "{arguments:?}: {error}");
    (output.status.code().expect("no signal"), error)
}

fn asset(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    text(&folder.join(name)).to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A memory node of its own, ended with the test.
struct Node {
    child: Child,
    tier: String,
}

impl Node {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .arg("node")
            .args(arguments)
            .args(["--listen", "tcp://127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let mut line = String::new();
        let error = child.stderr.take().expect("piped");
        BufReader::new(error).read_line(&mut line).expect("a line");
        let address = line.split_once("tcp://").map(|(_, address)| address.trim());
        let address = address.unwrap_or_else(|| panic!("no address in '{line}'"));
        let tier = format!("remote=tcp://{address}");
        Self { child, tier }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

#[test]
fn doctor_has_a_line_for_everything_and_fails_for_what_was_asked_only() {
    let report = json(&["doctor", "--json"]);
    assert_eq!(report["ok"], true);
    let checks = report["checks"].as_array().expect("a list");
    let names: Vec<&str> = checks
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    for name in [
        "kernel",
        "privileges",
        "memlock",
        "hugepages",
        "io_uring",
        "btf",
        "bpf",
        "pressure",
        "latency",
        "follow",
        "iommu",
        "cxl",
        "rdma",
        "gpu",
        "disks",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    for check in checks {
        assert_eq!(
            check["state"] == "lacks",
            check["next"].is_string(),
            "{check}"
        );
    }
    let node = Node::start(&["--mem", "8MiB"]);
    let report = json(&["doctor", "--json", "--tier", &node.tier, "--fast", "1MiB"]);
    let last = report["checks"].as_array().and_then(|checks| checks.last());
    let last = last.expect("the node is the last");
    assert_eq!(
        (&last["name"], &last["state"]),
        (&"remote".into(), &"ok".into())
    );
    assert!(
        last["found"]
            .as_str()
            .is_some_and(|found| found.contains("8.0 MiB to lend"))
    );
    let gone = node.tier.clone();
    drop(node);
    let output = run(&["doctor", "--tier", &gone]);
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = lines
        .lines()
        .filter(|line| line.starts_with("no "))
        .collect();
    assert!(
        failed.len() == 1 && failed[0].contains("larder node"),
        "{lines}"
    );
    assert_eq!(fails(&["doctor", "--tier", "tape=1"]).0, 2);
}

#[test]
fn topo_measures_or_says_why_not() {
    let folder = tempfile::tempdir().expect("temp folder");
    let nvme = format!("nvme={},1GiB", text(folder.path()));
    let node = Node::start(&["--mem", "64MiB"]);
    let report = json(&["topo", "--json", "--tier", &nvme, "--tier", &node.tier]);
    for part in ["tiers", "numa", "disks", "nodes"] {
        let list = report[part].as_array().expect("a list");
        assert!(!list.is_empty(), "{part}: {report}");
        for one in list {
            let has_rate = one["read_mb_s"].as_f64().is_some_and(|rate| rate > 0.0);
            assert_ne!(has_rate, one["not_measured"].is_string(), "{one}");
        }
    }
    let node = &report["nodes"][0];
    assert!(
        node["round_trip_us"].as_f64() > Some(0.0) && node["read_mb_s"].is_f64(),
        "{node}"
    );
    let names: Vec<&str> = report["tiers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|tier| tier["name"].as_str())
        .collect();
    assert_eq!(names, ["dram", "nvme", "remote"]);
    let absent = json(&["topo", "--json", "/none/of/these"]);
    assert!(absent["disks"][0]["not_measured"].is_string(), "{absent}");
}

#[test]
fn scripts_and_pages_come_from_the_options() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && script.contains("detokenize"),
            "{shell}"
        );
    }
    let page = run(&["man", "run"]).stdout;
    assert!(String::from_utf8_lossy(&page).contains(".SH OPTIONS"));
    let folder = tempfile::tempdir().expect("temp folder");
    assert!(run(&["man", "--out", text(folder.path())]).status.success());
    assert!(folder.path().join("larder-doctor.1").is_file());
    assert_eq!(fails(&["man", "tape"]).0, 2);
}

#[test]
fn a_file_configures_a_node_and_a_run() {
    let folder = tempfile::tempdir().expect("temp folder");
    let file = folder.path().join("larder.toml");
    let settings = "[node]\nmem = \"8MiB\"\n\n[run]\nprompt = \"Once\"\ncount = 3\njson = true\n";
    std::fs::write(&file, settings).expect("written");
    let checked = run(&["config", "check", text(&file)]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success() && said.contains("[node] 1 key"),
        "{said}"
    );
    let report = json(&["run", &asset("larder-story.gguf"), "--config", text(&file)]);
    assert_eq!(report["tokens"].as_array().map(Vec::len), Some(3));
    let typed = ["-n", "2", "--config", text(&file)];
    let report = json(&[&["run", &asset("larder-story.gguf")], &typed[..]].concat());
    assert_eq!(report["tokens"].as_array().map(Vec::len), Some(2));
    let node = Node::start(&["--config", text(&file)]);
    let report = json(&["ls", &node.tier, "--json"]);
    assert_eq!(report["mem_bytes"], 8 << 20);
    std::fs::write(&file, "[node]\nmemm = \"8MiB\"\n").expect("written");
    for arguments in [
        &["config", "check", text(&file)][..],
        &["node", "--config", text(&file)],
    ] {
        let (code, error) = fails(arguments);
        assert!(
            code == 2 && error.contains("line 2") && error.contains("'memm'"),
            "{error}"
        );
    }
}

#[test]
fn a_run_leaves_a_trace_that_policies_are_judged_on() {
    let folder = tempfile::tempdir().expect("temp folder");
    let file = folder.path().join("trace.jsonl");
    let model = asset("larder-story-moe.gguf");
    let trace = ["--trace", text(&file), "--json"];
    let long = ["-p", "Once", "-n", "60", "--ignore-eos"];
    json(&[&["run", &model], &long[..], &trace].concat());
    let plot = folder.path().join("plot.svg");
    let report = json(&[
        "bench",
        "policy",
        text(&file),
        "--no-generated",
        "--share",
        "1/2",
        "--json",
        "--plot",
        text(&plot),
    ]);
    let trace_report = &report["traces"][0];
    assert_eq!(trace_report["trace"], "larder-story-moe.gguf");
    let misses = trace_report["sizes"][0]["misses"]
        .as_array()
        .expect("a list");
    let misses: Vec<u64> = misses.iter().filter_map(Value::as_u64).collect();
    assert!(
        misses.len() == 6 && misses.iter().all(|&one| one >= misses[5]),
        "{misses:?}"
    );
    assert!(
        std::fs::read_to_string(&plot)
            .expect("drawn")
            .contains("</svg>")
    );
    let dense = ["run", &asset("larder-story.gguf"), "-p", "x"];
    let (code, error) = fails(&[&dense[..], &trace].concat());
    assert!(code == 2 && error.contains("no experts"), "{error}");
    std::fs::write(&file, "nonsense\n").expect("written");
    let (code, error) = fails(&["bench", "policy", text(&file)]);
    assert!(code == 2 && error.contains("line 1"), "{error}");
}

#[test]
fn heat_says_what_is_missing() {
    let folder = tempfile::tempdir().expect("temp folder");
    let pins = folder.path().join("larder");
    let (code, error) = fails(&["heat", "--pins", text(&pins)]);
    assert!(code == 1 && error.contains("larder heat start"), "{error}");
    let (code, error) = fails(&["heat", "stop", "--pins", text(&pins)]);
    assert!(code == 1 && error.contains("nothing is pinned"), "{error}");
    let (code, error) = fails(&["heat", "start", "--pins", text(&pins)]);
    let reasons = ["no bpf file system", "missing", "locked down"];
    assert!(
        code == 1 && reasons.iter().any(|part| error.contains(part)),
        "{error}"
    );
    let report = json(&[
        "run",
        &asset("larder-story.gguf"),
        "-p",
        "Once",
        "-n",
        "2",
        "--json",
    ]);
    let notes = report["notes"].as_array().expect("a list");
    let heat = notes.iter().filter_map(Value::as_str);
    let heat: Vec<&str> = heat
        .filter(|note| note.contains("heat counted in"))
        .collect();
    assert_eq!(heat.len(), 1, "{notes:?}");
}

/// Pins, a run that counts into them, its picture, and the end of the pins, in a mount namespace of
/// its own.
const HEAT: &str = r#"
set -e
mount -t bpf bpf /sys/fs/bpf
"$0" heat start
"$0" run "$1" -p Once -n 8 --json > run.json
"$0" run "$1" -p Once -n 8 --json > again.json
"$0" heat --json > heat.json
"$0" heat > heat.txt
"$0" heat status --json > status.json
"$0" heat --out heat.svg
"$0" doctor --json > doctor.json
"$0" heat stop --keep-heat
"$0" heat start
"$0" heat stop
"$0" heat stop && exit 9 || true
"#;

#[test]
fn heat_of_a_run_is_pinned_and_drawn() {
    let folder = tempfile::tempdir().expect("temp folder");
    let model = asset("larder-story-moe.gguf");
    if let Err(reason) = own_mounts::run(HEAT, BINARY, [model], folder.path()) {
        return println!("skipped: {reason}");
    }
    let read = |name: &str| {
        let path: PathBuf = folder.path().join(name);
        std::fs::read_to_string(path).expect("written")
    };
    let parsed = |name: &str| -> Value { serde_json::from_str(&read(name)).expect("an object") };
    let first = parsed("run.json")["notes"].to_string();
    if first.contains("this process only") {
        return println!("skipped: engines claim no array here ({first})");
    }
    assert!(first.contains("block_heat_0\""), "{first}");
    let again = parsed("again.json")["notes"].to_string();
    assert!(
        again.contains("block_heat_0, on top of earlier runs"),
        "{again}"
    );
    let heat = parsed("heat.json");
    let blocks = heat["arrays"][0]["blocks"].as_array().expect("a list");
    // Blocks of every step come first: 8 tokens make a prefill and 7 steps, twice.
    assert_eq!(blocks[0]["touches"], 16);
    assert!(blocks.len() > 96, "experts too");
    assert!(read("heat.txt").contains("legend"));
    assert!(read("heat.svg").contains("</svg>"));
    let doctor = parsed("doctor.json");
    let mut checks = doctor["checks"].as_array().expect("a list").iter();
    let bpf = checks.find(|check| check["name"] == "bpf").expect("a line");
    assert!(
        bpf["found"]
            .as_str()
            .is_some_and(|found| found.contains("probes run")),
        "{bpf}"
    );
    let status = parsed("status.json");
    assert!(
        status["programs"]
            .as_array()
            .is_some_and(|programs| !programs.is_empty())
    );
    assert_eq!(status["arrays"][0]["owner_pid"], 0);
}
