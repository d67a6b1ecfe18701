//! The joined path from outside: a memory node, a model that only it has, a spill folder, and the
//! smallest budget that works; the ids are those of a free run.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const LARDER: &str = env!("CARGO_BIN_EXE_larder");
/// What every model here was trained for, at least.
const CONTEXT: &str = "256";
const COUNT: &str = "219";

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("assets")
        .join(name)
}

/// A node on loopback, killed when dropped.
struct NodeProcess {
    child: Child,
    /// Such as `tcp://127.0.0.1:40000`.
    address: String,
}

impl NodeProcess {
    fn start(mem: &str) -> Self {
        let mut child = Command::new(LARDER)
            .args(["node", "--listen", "tcp://127.0.0.1:0", "--mem", mem])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a node starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = lines
            .next()
            .expect("a node says where it is")
            .expect("text");
        let address = line.rsplit_once(" at ").expect("an address").1.to_owned();
        // Whatever else it says must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Largest resident set so far.
    fn peak_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the node lives");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.expect("a peak").split_whitespace().nth(1);
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("a number")
            << 10
    }

    fn tier(&self) -> String {
        format!("remote={}", self.address)
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs larder in a folder of its own, and reads its JSON.
fn larder(folder: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(LARDER)
        .args(arguments)
        .arg("--json")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("larder starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The one line and the exit code of a command that fails.
fn fails(folder: &Path, arguments: &[&str]) -> (String, i32) {
    let output = Command::new(LARDER)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("larder starts");
    let said = String::from_utf8(output.stderr).expect("text");
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("larder: "))
        .collect();
    assert!(errors.len() == 1 && !said.contains("panicked"), "{said}");
    (
        errors[0].to_owned(),
        output.status.code().expect("an exit code"),
    )
}

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
    let folder = TempDir::new().expect("temp folder");
    let node = NodeProcess::start("48MiB");
    let remote = node.tier();
    for (file, name) in [
        ("larder-story-moe.gguf", "remote://larder-story-moe"),
        ("tiny/tiny-folder", "remote://tiny-folder"),
        ("tiny/tiny-q8_0.gguf", "remote://tiny-q8_0"),
    ] {
        let path = asset(file);
        let path = path.to_str().expect("text");
        let loaded = larder(folder.path(), &["load", path, "--into", &remote]);
        assert!(loaded["nodes"][0]["sent_bytes"].as_u64() > Some(0));
        let again = larder(folder.path(), &["load", path, "--into", &remote]);
        assert_eq!(again["nodes"][0]["sent_bytes"], 0, "content is stored once");
        let free = larder(folder.path(), &run_of(path, &[]));
        for device in [false, true] {
            let lower = ["--tier", "nvme=spill,16MiB", "--tier", &remote];
            let mut plan = vec!["plan", name, "--context", CONTEXT, "--fast", "64MiB"];
            plan.extend(lower);
            let plan = larder(folder.path(), &plan);
            let least = plan["min_fast_bytes"].as_u64().expect("a number");
            let fast = if device {
                format!("hbm=sim,{least}")
            } else {
                format!("dram={least}")
            };
            let mut more = vec!["--tier", fast.as_str()];
            more.extend(lower);
            let made = larder(folder.path(), &run_of(name, &more));
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

#[test]
fn a_node_that_restarts_is_an_error_never_other_bytes() {
    let folder = TempDir::new().expect("temp folder");
    let node = NodeProcess::start("48MiB");
    let path = asset("larder-story.gguf");
    let path = path.to_str().expect("text");
    larder(folder.path(), &["load", path, "--into", &node.tier()]);
    let slow = format!("{},limit=2MB/s", node.tier());
    let arguments = run_of(
        "remote://larder-story",
        &["--fast", "700KiB", "--tier", &slow],
    );
    let mut running = Command::new(LARDER)
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("larder starts");
    // The text has begun.
    let mut first = [0];
    let out = running.stdout.as_mut().expect("piped");
    out.read_exact(&mut first).expect("text");
    let port = node.address.rsplit_once(':').expect("a port").1.to_owned();
    drop(node);
    let listen = format!("tcp://127.0.0.1:{port}");
    // The same address again; the port may be taken by somebody else by now.
    let again = Command::new(LARDER)
        .args(["node", "--listen", &listen, "--mem", "48MiB"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let output = running.wait_with_output().expect("larder ends");
    if let Ok(mut again) = again {
        let _ = again.kill();
        let _ = again.wait();
    }
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().expect("an error");
    assert!(
        last.starts_with("larder: ") && last.contains("tcp://127.0.0.1"),
        "{said}"
    );
}

#[test]
fn bad_use_of_nodes_is_one_clear_line() {
    let folder = TempDir::new().expect("temp folder");
    let (one, other) = (NodeProcess::start("48MiB"), NodeProcess::start("48MiB"));
    let (tier, more) = (one.tier(), other.tier());
    let story = asset("larder-story.gguf");
    let story = story.to_str().expect("text");
    let tiny = asset("tiny/tiny-f32.gguf");
    let tiny = tiny.to_str().expect("text");
    let named = |model, into| {
        larder(
            folder.path(),
            &["load", model, "--name", "m", "--into", into],
        );
    };
    named(story, &tier);
    named(tiny, &more);
    let run = |tiers: &[&str]| {
        let mut arguments = vec!["run", "remote://m", "-p", "x"];
        arguments.extend(tiers.iter().flat_map(|tier| ["--tier", tier]));
        fails(folder.path(), &arguments)
    };
    let expect = |found: (String, i32), code: i32, part: &str| {
        assert!(
            found.1 == code && found.0.contains(part),
            "{found:?}, not {part}"
        );
    };
    expect(run(&[&tier, &more]), 1, "two models are named 'm'");
    expect(run(&[]), 1, "no node for remote://m");
    let missing = ["run", "remote://absent", "-p", "x", "--tier", &tier];
    expect(fails(folder.path(), &missing), 1, "they have m");
    expect(
        run(&["remote=tcp://127.0.0.1:1"]),
        1,
        "is `larder node` running there?",
    );
    expect(fails(folder.path(), &["rm", &tier, "absent"]), 1, "absent");
    expect(
        fails(folder.path(), &["ls", "nvme=/x,1MiB"]),
        2,
        "a memory node",
    );
    let node = ["node", "--listen", "tcp://0.0.0.0:0", "--mem", "1MiB"];
    expect(fails(folder.path(), &node), 1, "--token-file or --insecure");
    expect(fails(folder.path(), &["node", "--mem", "x"]), 2, "--mem");
    let both = ["--tier", "nvme=spill,16MiB", "--tier"];
    let slow = format!("{tier},limit=1MB/s");
    let slow = [&["run", story, "-p", "x"][..], &both, &[&slow]].concat();
    expect(fails(folder.path(), &slow), 1, "add ,force");
    let small = ["--tier", "nvme=small,64KiB"];
    let plan = ["plan", story, "--context", "256", "--fast", "64MiB"];
    let least = larder(folder.path(), &[&plan[..], &small].concat());
    let least = least["min_fast_bytes"].to_string();
    let arguments = run_of(story, &["--fast", &least, "--tier", "nvme=small,64KiB"]);
    expect(fails(folder.path(), &arguments), 1, "of kv on nvme");
    let full = NodeProcess::start("256KiB");
    let load = ["load", story, "--into", &full.tier()];
    expect(fails(folder.path(), &load), 1, "tcp://127.0.0.1");
}

/// Text and report of a run in which `kill` happens once the text has begun.
fn text_with(folder: &Path, arguments: &[&str], kill: impl FnOnce()) -> (String, String) {
    let mut running = Command::new(LARDER)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("larder starts");
    let mut first = [0];
    let out = running.stdout.as_mut().expect("piped");
    // Without a text the exit says why.
    let _ = out.read_exact(&mut first);
    kill();
    let output = running.wait_with_output().expect("larder ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let rest = String::from_utf8_lossy(&output.stdout).into_owned();
    (format!("{}{rest}", char::from(first[0])), said)
}

#[test]
fn a_node_that_dies_changes_no_word() {
    let folder = TempDir::new().expect("temp folder");
    // Long enough for KV to be at the node before the text begins.
    let prompt: Vec<String> = (0..150).map(|i| (30 + i % 200).to_string()).collect();
    let prompt = prompt.join(",");
    let run = |model: &str, tiers: &[&str], kill: &mut dyn FnMut()| {
        let fixed = ["run", model, "--prompt-tokens", &prompt, "-n", "100"];
        let more = ["--ignore-eos", "--context", CONTEXT];
        text_with(folder.path(), &[&fixed[..], &more, tiers].concat(), kill)
    };
    for name in ["larder-story", "larder-story-moe"] {
        let path = asset(&format!("{name}.gguf"));
        let path = path.to_str().expect("text");
        let (free, _) = run(path, &[], &mut || ());
        let remote = format!("remote://{name}");
        for device in [false, true] {
            let (first, second) = (NodeProcess::start("48MiB"), NodeProcess::start("48MiB"));
            for node in [&first, &second] {
                larder(folder.path(), &["load", path, "--into", &node.tier()]);
            }
            let links = [&first, &second].map(|node| format!("{},limit=80MB/s", node.tier()));
            let plan = ["plan", path, "--context", CONTEXT, "--fast", "64MiB"];
            let spill = ["--tier", "nvme=plan,16MiB"];
            let plan = larder(folder.path(), &[&plan[..], &spill].concat());
            let least = plan["min_fast_bytes"].as_u64().expect("a number");
            let fast = if device {
                format!("hbm=sim,{least}")
            } else {
                format!("dram={least}")
            };
            let tiers = ["--tier", &fast, "--tier", &links[0], "--tier", &links[1]];
            // The first node has weights and the KV, the second one weights.
            let mut first = Some(first);
            let (text, said) = run(&remote, &tiers, &mut || drop(first.take()));
            assert_eq!(text, free, "{name} {fast}");
            assert!(said.contains("computed again"), "{name} {fast}: {said}");
            // With a file in reach, a node only has KV.
            let tiers = ["--tier", &fast, "--tier", &links[1]];
            let (text, said) = run(path, &tiers, &mut || ());
            assert_eq!(text, free, "{name} {fast}");
            assert!(!said.contains("computed again"), "{name} {fast}: {said}");
        }
    }
}
