//! An engine that starts from the heat of the one before: what it was killed with is kept, what it
//! used most is there before the first prompt, and no file or count does harm.

#![forbid(unsafe_code)]

mod own_mounts;

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_larder");
const PROMPT: &str = "Once there was a cook named Mira who kept a larder under the stairs.";
/// No run here takes this long.
const LONGEST: Duration = Duration::from_mins(2);
/// Counts in a file of heat begin here, and a hash of this many bytes ends it.
const HEAD_BYTES: usize = 48;
const SUM_BYTES: usize = 32;

fn asset(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    text(&folder.join(name)).to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn larder(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).arg("--json").stdin(Stdio::null());
    command
}

fn json(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Turns of one prompt under `fast` bytes.
fn turns(model: &str, fast: &str, more: &[&str]) -> Vec<String> {
    let fixed = ["bench", "turns", model, "-p", PROMPT, "-n", "24"];
    let memory = ["--context", "256", "--fast", fast];
    let all = fixed.iter().chain(&memory).chain(more);
    all.map(|&one| one.to_owned()).collect()
}

fn run_turns(model: &str, fast: &str, more: &[&str]) -> Value {
    let arguments = turns(model, fast, more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    json(&larder(&arguments).output().expect("the binary starts"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

/// Uses of the block that every pass uses, as a file says.
fn passes(heat: &Path) -> Option<u64> {
    let bytes = std::fs::read(heat).ok()?;
    let word = bytes.get(HEAD_BYTES..HEAD_BYTES + 8)?;
    Some(u64::from_le_bytes(word.try_into().expect("eight bytes")))
}

/// Runs turns that never end, until their heat is kept, and kills them.
fn die(model: &str, fast: &str, heat: &Path) {
    let warm = format!("--warm={}", text(heat));
    let arguments = turns(model, fast, &["--turns", "10000", &warm]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut child = larder(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let start = Instant::now();
    let (_open, nothing) = channel::<()>();
    while passes(heat).is_none_or(|passes| passes < 50) {
        let ended = child.try_wait().expect("our child");
        let in_time = start.elapsed() < LONGEST;
        let _ = nothing.recv_timeout(Duration::from_millis(20));
        if ended.is_some() || !in_time {
            let _ = (child.kill(), child.wait());
            panic!("no heat is kept: {ended:?}");
        }
    }
    child.kill().expect("it runs");
    let status = child.wait().expect("our child");
    assert_eq!(status.code(), None, "SIGKILL ended it");
}

/// The first turn of `warm` reads no more than a later one, and that of `cold` does.
fn check(warm: &Value, cold: &Value) {
    let both = format!("warm {warm}, cold {cold}");
    for turn in warm["turns"].as_array().expect("turns") {
        assert_eq!(turn["tokens"], cold["turns"][0]["tokens"], "{both}");
    }
    let of = |report: &Value, turn: usize, what: &str| number(&report["turns"][turn][what]);
    for what in ["misses", "bytes"] {
        let (first, steady) = (of(warm, 0, what), of(warm, 1, what));
        assert!(first < of(cold, 0, what), "{what}: {both}");
        assert!(first <= steady + steady / 10 + 4, "{what}: {both}");
    }
    let warm = &warm["warm"];
    assert!(number(&warm["hits"]) > 0, "{both}");
    assert!(warm["hits"].as_u64() <= warm["blocks"].as_u64(), "{both}");
    assert_eq!(warm["blocks"], warm["asked"], "{both}");
    assert!(cold["warm"].is_null(), "{both}");
}

#[test]
fn a_killed_engine_leaves_the_next_one_warm() {
    let folder = tempfile::tempdir().expect("temp folder");
    let models = ["larder-story-moe.gguf", "larder-story.gguf"];
    for (model, fast) in models.iter().zip(["1000KiB", "1100KiB"]) {
        let (model, heat) = (asset(model), folder.path().join(fast));
        die(&model, fast, &heat);
        let warm = format!("--warm={}", text(&heat));
        for device in [false, true] {
            let tier = format!("hbm=sim,{fast}");
            let place: &[&str] = if device { &["--tier", &tier] } else { &[] };
            let two = [&["--turns", "2"], place].concat();
            let cold = run_turns(&model, fast, &two);
            check(
                &run_turns(&model, fast, &[&two[..], &[&warm]].concat()),
                &cold,
            );
        }
    }
}

#[test]
fn a_request_goes_before_what_is_still_on_its_way() {
    let folder = tempfile::tempdir().expect("temp folder");
    let (model, heat) = (asset("larder-story-moe.gguf"), folder.path().join("heat"));
    let warm = format!("--warm={}", text(&heat));
    let first = run_turns(&model, "1000KiB", &["--turns", "1", &warm]);
    // The first block is used by the prompt's pass and 23 steps.
    assert_eq!(passes(&heat), Some(24));
    assert_eq!(
        first["warm"]["asked"].as_u64(),
        Some(15),
        "nothing is hot yet"
    );
    for idle in ["0", "0.02"] {
        let slow = ["--tier", "origin,limit=5MB/s", "--idle", idle];
        let arguments = [&["--turns", "1"], &slow[..], &[&warm]].concat();
        let report = run_turns(&model, "1000KiB", &arguments);
        assert_eq!(report["turns"][0]["tokens"], first["turns"][0]["tokens"]);
        let came = number(&report["warm"]["blocks"]);
        assert!(came < number(&report["warm"]["asked"]) / 2, "{report}");
    }
    // On standard input a prompt may come late; elsewhere it is there before anything is brought.
    let fixed = [
        "--context",
        "256",
        "--fast",
        "1000KiB",
        "-n",
        "24",
        "--ignore-eos",
    ];
    let run = |prompt: &[&str], typed: Option<&str>| {
        let arguments = [&["run", &model], prompt, &fixed[..], &[&warm]].concat();
        let mut child = larder(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut input = child.stdin.take().expect("piped");
        let typed = typed.unwrap_or_default().as_bytes();
        input.write_all(typed).expect("it reads");
        drop(input);
        json(&child.wait_with_output().expect("it ends"))
    };
    let late = run(&["-f", "-"], Some(PROMPT));
    assert_eq!(late["tokens"], first["turns"][0]["tokens"]);
    assert!(number(&late["warm"]["asked"]) > 15, "{late}");
    let there = run(&["-p", PROMPT], None);
    assert_eq!(there["tokens"], late["tokens"]);
    assert!(there["warm"].is_null(), "{there}");
}

/// The note of a run that names a file; the run makes the text it always makes.
fn note(model: &str, heat: &Path, tokens: &Value) -> String {
    let warm = format!("--warm={}", text(heat));
    let report = run_turns(model, "1000KiB", &["--turns", "1", &warm]);
    assert_eq!(report["turns"][0]["tokens"], *tokens);
    let notes = report["notes"].as_array().expect("a list").iter();
    let about = notes.filter_map(Value::as_str);
    let about: Vec<&str> = about.filter(|note| note.contains(text(heat))).collect();
    assert_eq!(about.len(), 1, "{report}");
    about[0].to_owned()
}

#[test]
fn files_of_no_use_are_one_line_and_only_ours_is_replaced() {
    let folder = tempfile::tempdir().expect("temp folder");
    let (model, heat) = (asset("larder-story-moe.gguf"), folder.path().join("heat"));
    let report = run_turns(&model, "1000KiB", &["--turns", "1"]);
    let tokens = &report["turns"][0]["tokens"];
    assert!(note(&model, &heat, tokens).contains("is kept in"));
    assert!(note(&model, &heat, tokens).contains("heat of earlier runs"));
    assert_eq!(passes(&heat), Some(48), "two runs of 24 passes");
    let good = std::fs::read(&heat).expect("kept");

    let mut foreign = vec![("a letter".as_bytes().to_vec(), "holds no heat")];
    for (at, part) in [(8, "version"), (16, "another model"), (12, "another model")] {
        let mut bytes = good.clone();
        bytes[at] ^= 64;
        foreign.push((bytes, part));
    }
    for (bytes, part) in foreign {
        std::fs::write(&heat, &bytes).expect("written");
        let said = note(&model, &heat, tokens);
        assert!(said.contains(part) && said.contains("left alone"), "{said}");
        assert_eq!(std::fs::read(&heat).expect("there"), bytes);
    }
    std::fs::write(&heat, &good[..good.len() - 1]).expect("written");
    assert!(note(&model, &heat, tokens).contains("damaged"));
    assert_eq!(passes(&heat), Some(24), "it began anew");

    // Counts that nobody can have made: a useless order, and they fade.
    let mut nonsense = good[..good.len() - SUM_BYTES].to_vec();
    nonsense[HEAD_BYTES..].fill(0xff);
    let sum = blake3::derive_key("larder heat file 1", &nonsense);
    std::fs::write(&heat, [&nonsense[..], &sum].concat()).expect("written");
    assert!(note(&model, &heat, tokens).contains("heat of earlier runs"));
    assert!(passes(&heat).is_some_and(|passes| passes < 2048));

    assert!(note(&model, folder.path(), tokens).contains("left alone"));
    let nowhere: PathBuf = folder.path().join("none/heat");
    assert!(note(&model, &nowhere, tokens).contains("not kept"));
}

#[test]
fn engines_may_share_a_file() {
    let folder = tempfile::tempdir().expect("temp folder");
    let (model, heat) = (asset("larder-story-moe.gguf"), folder.path().join("heat"));
    let warm = format!("--warm={}", text(&heat));
    let arguments = turns(&model, "1000KiB", &["--turns", "2", &warm]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let children: Vec<_> = (0..3)
        .map(|_| {
            let mut command = larder(&arguments);
            let spawned = command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            spawned.expect("the binary starts")
        })
        .collect();
    for child in children {
        let report = json(&child.wait_with_output().expect("it ends"));
        assert_eq!(report["turns"].as_array().map(Vec::len), Some(2));
    }
    // Whoever was last, its counts are whole.
    assert!(passes(&heat).is_some_and(|passes| passes >= 48));
    let names = std::fs::read_dir(folder.path()).expect("listed");
    assert_eq!(names.count(), 1, "nothing is left beside it");
}

#[test]
fn bad_use_is_refused() {
    let model = asset("larder-story-moe.gguf");
    for more in [
        &["--turns", "0"][..],
        &["--idle", "1"],
        &["--warm", "--idle", "-1"],
        &["--warm", "--idle", "NaN"],
        &["--prompt-tokens", "x"],
    ] {
        let fixed = ["bench", "turns", &model, "--fast", "1000KiB"];
        let arguments: Vec<&str> = fixed.iter().chain(more).copied().collect();
        let output = larder(&arguments).output().expect("the binary starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {error}");
    }
}

/// Pins of its own, a first engine that is killed, and the next one, in a mount namespace.
const PINNED: &str = r#"
set -e
mount -t bpf bpf /sys/fs/bpf
"$0" heat start --entries 1024
"$0" "$@" --turns 10000 --warm > killed.txt & pid=$!
sleep 5
kill -9 $pid
wait $pid || true
"$0" heat status --json > status.json
"$0" "$@" --turns 2 --warm --json > warm.json
"$0" heat status --json > after.json
"$0" "$@" --turns 2 --json > cold.json
"$0" heat stop
"#;

#[test]
fn a_killed_engine_leaves_its_pinned_array() {
    let folder = tempfile::tempdir().expect("temp folder");
    let arguments = turns(&asset("larder-story-moe.gguf"), "1000KiB", &[]);
    if let Err(reason) = own_mounts::run(PINNED, BINARY, arguments, folder.path()) {
        return println!("skipped: {reason}");
    }
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(folder.path().join(name)).expect("written");
        serde_json::from_str(&text).expect("an object")
    };
    let (warm, status) = (read("warm.json"), read("status.json"));
    let notes = warm["notes"].to_string();
    if notes.contains("this process only") {
        return println!("skipped: engines claim no array here ({notes})");
    }
    assert!(notes.contains("on top of earlier runs"), "{notes}");
    assert_eq!(status["arrays"][0]["owner_alive"], false, "{status}");
    assert_eq!(read("after.json")["arrays"][0]["owner_pid"], 0);
    check(&warm, &read("cold.json"));
}
