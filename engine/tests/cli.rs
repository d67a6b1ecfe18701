//! The command line from outside: exit codes, one line per error, nothing left behind.

#![forbid(unsafe_code)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn larder() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.stdin(Stdio::null());
    command
}

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("assets")
        .join(name)
}

fn story() -> PathBuf {
    asset("larder-story.gguf")
}

fn run(arguments: &[&str]) -> Output {
    larder()
        .args(arguments)
        .output()
        .expect("the binary starts")
}

/// Exit code and the one line on standard error; a panic fails the test.
fn fails(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(!error.contains("panicked"), "{error}");
    let code = output.status.code().expect("no signal");
    assert!(code == 1 || code == 2, "exit {code}: {error}");
    let lines: Vec<&str> = error
        .lines()
        .filter(|line| line.starts_with("larder: "))
        .collect();
    assert!(lines.len() == 1 || code == 2, "one line: {error}");
    (code, error)
}

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn a_budget_that_is_too_small_names_the_smallest_that_works() {
    let model = story();
    let base = [
        "run",
        text(&model),
        "--prompt-tokens",
        "1",
        "-n",
        "2",
        "--context",
        "64",
    ];
    let plan = json(&["plan", text(&model), "--context", "64", "--json"]);
    let least = plan["min_fast_bytes"]
        .as_u64()
        .expect("a number")
        .to_string();
    let (code, error) = fails(&[&base[..], &["--fast", "10KiB"]].concat());
    assert!(code == 1 && error.contains(&least), "{error}");
    let report = json(&[&base[..], &["--fast", &least, "--json"]].concat());
    assert!(report["fast_bytes"].as_u64() <= least.parse().ok());
    assert_eq!(report["tokens"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_report_has_its_fields() {
    let report = json(&[
        "run",
        text(&story()),
        "-p",
        "Once",
        "-n",
        "8",
        "--json",
        "--fast",
        "600KiB",
        "--context",
        "128",
        "--tier",
        "origin,limit=100MB/s",
    ]);
    for key in [
        "text",
        "tokens",
        "prompt_tokens",
        "ttft_ms",
        "decode_tok_s",
        "prefill_tok_s",
        "fast_bytes",
        "peak_bytes",
        "bytes_over_need",
        "hits",
        "misses",
        "stall_ms",
        "link_busy",
        "bound_tok_s",
        "of_bound",
        "of_optimum",
        "cpu",
    ] {
        assert!(!report[key].is_null(), "{key}: {report}");
    }
    assert!(report["bytes_moved"]["origin>dram"].as_u64() > Some(0));
    assert!(report["link_mb_s"]["origin>dram"].as_f64() > Some(0.0));
}

#[test]
fn who_watches_memory_says_what_came_of_it() {
    let path = story();
    let base = ["run", text(&path), "-p", "Once", "-n", "4", "--json"];
    let calm = json(&base);
    assert!(calm["pressure"].is_null(), "{calm}");
    let watched = json(&[&base[..], &["--pressure"]].concat());
    assert_eq!(watched["tokens"], calm["tokens"]);
    let notes = watched["notes"].to_string();
    assert!(notes.contains("pressure by free memory"), "{notes}");
    for key in ["shrunk", "lowest_bytes", "under_ms"] {
        assert!(watched["pressure"][key].is_number(), "{key}: {watched}");
    }
    let device = ["--tier", "hbm=sim,4MiB", "--pressure"];
    let device = json(&[&base[..], &device].concat());
    assert!(device["pressure"].is_null(), "{device}");
    assert!(
        device["notes"]
            .to_string()
            .contains("--pressure does nothing")
    );
    for (file, part) in [("/no/such", "/no/such: "), ("/dev/null", "no line 'some")] {
        let pressure = format!("--pressure={file}");
        let (code, error) = fails(&["run", text(&path), "-p", "x", &pressure]);
        assert!(code == 2 && error.contains(part), "{error}");
    }
}

#[test]
fn bad_use_is_told_from_failure() {
    let (tiny, model) = (asset("tiny/tiny-q8_0.gguf"), story());
    let (tiny, model) = (text(&tiny), text(&model));
    for (code, part, arguments) in [
        (2, "--prompt-tokens", vec!["run", tiny, "-p", "text"]),
        (2, "tape", vec!["run", model, "-p", "x", "--tier", "tape=1"]),
        (
            2,
            "two sizes",
            vec![
                "run",
                model,
                "-p",
                "x",
                "--fast",
                "1MiB",
                "--tier",
                "dram=2MiB",
            ],
        ),
        (
            2,
            "--threads",
            vec!["run", model, "-p", "x", "--threads", "0"],
        ),
        (2, "--top-p", vec!["run", model, "-p", "x", "--top-p", "0"]),
        (
            1,
            "vocabulary",
            vec!["run", model, "--prompt-tokens", "1,99999"],
        ),
        (
            1,
            "context",
            vec!["run", model, "--prompt-tokens", "1,5,6,7", "--context", "3"],
        ),
        (
            1,
            "trained",
            vec!["run", model, "-p", "x", "--context", "100000"],
        ),
        (1, "/no/such", vec!["run", "/no/such.gguf", "-p", "x"]),
        (1, "/no/such", vec!["score", model, "-f", "/no/such.txt"]),
        (
            1,
            "folder",
            vec![
                "score",
                model,
                "--prompt-tokens",
                "1,5",
                "--logits",
                "/no/folder/x.npy",
            ],
        ),
        (
            1,
            "config.json",
            vec!["inspect", env!("CARGO_MANIFEST_DIR")],
        ),
        (1, "vocabulary", vec!["detokenize", model, "99999"]),
    ] {
        let (found, error) = fails(&arguments);
        assert_eq!(found, code, "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn text_goes_to_ids_and_back() {
    let model = story();
    let sentence = "Once there was a cook named Mira \u{e9}\u{65e5}.";
    let ids = json(&["tokenize", text(&model), "--json", "--no-bos", sentence]);
    let ids: Vec<String> = ids["tokens"]
        .as_array()
        .expect("ids")
        .iter()
        .map(Value::to_string)
        .collect();
    let back = json(&["detokenize", text(&model), "--json", &ids.join(",")]);
    assert_eq!(back["text"], sentence);
}

#[test]
fn sampling_repeats_with_its_seed() {
    let model = story();
    let tell = |seed: &str| {
        let hot = ["--temperature", "1.5", "--top-k", "50", "--seed", seed];
        let base = [
            "run",
            text(&model),
            "-p",
            "Once",
            "-n",
            "30",
            "--context",
            "64",
            "--json",
        ];
        json(&[&base[..], &hot].concat())["tokens"].clone()
    };
    assert_eq!(tell("7"), tell("7"));
    assert_ne!(tell("7"), tell("8"));
}

/// Starts a run over a link so slow that it lasts for seconds, and waits until it has begun.
fn slow_run(model: &Path, folder: &Path) -> std::process::Child {
    let logits = folder.join("out.npy");
    let ids: Vec<String> = (3..200).map(|id| id.to_string()).collect();
    let mut child = larder()
        .args([
            "score",
            text(model),
            "--prompt-tokens",
            &ids.join(","),
            "--context",
            "256",
        ])
        .args([
            "--fast",
            "560KiB",
            "--tier",
            "origin,limit=1MB/s",
            "--logits",
            text(&logits),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let tasks = PathBuf::from(format!("/proc/{}/task", child.id()));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        let threads = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
        let mut names = threads.filter_map(|task| std::fs::read(task.path().join("comm")).ok());
        if names.any(|name| name.starts_with(b"larder-origin")) {
            return child;
        }
        std::thread::yield_now();
    }
    child
        .kill()
        .and_then(|()| child.wait())
        .expect("the run ends");
    panic!("the run did not begin");
}

#[test]
fn a_file_replaced_under_a_run_is_one_clear_line() {
    let folder = tempfile::tempdir().expect("temp folder");
    let model = folder.path().join("model.gguf");
    std::fs::copy(story(), &model).expect("copy");
    let child = slow_run(&model, folder.path());
    let other = folder.path().join("other");
    std::fs::copy(story(), &other).expect("copy");
    std::fs::rename(&other, &model).expect("rename");
    let output = child.wait_with_output().expect("ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("replaced") && error.contains("model.gguf"),
        "{error}"
    );
    assert!(!folder.path().join("out.npy").exists());
}

/// Whether this process, hence its children, were started with SIGINT ignored, as shells do for
/// commands in the background.
fn ignores_interrupts() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 0b10 != 0)
}

#[test]
fn a_run_that_is_killed_leaves_nothing_behind() {
    for signal in ["INT", "TERM", "KILL"] {
        if signal == "INT" && ignores_interrupts() {
            println!("skipped: started in the background, where SIGINT is ignored");
            continue;
        }
        let folder = tempfile::tempdir().expect("temp folder");
        let child = slow_run(&story(), folder.path());
        let kill = format!("kill -{signal} {}", child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .expect("sh")
                .success()
        );
        let begun = Instant::now();
        let output = child.wait_with_output().expect("ends");
        assert!(!output.status.success() && begun.elapsed() < Duration::from_secs(5));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("list").count(),
            0,
            "{signal}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let mut child = larder()
        .args([
            "run",
            text(&story()),
            "-p",
            "Once",
            "-n",
            "200",
            "--context",
            "256",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

/// Black-box acceptance on files that are not part of the project, where they are.
#[test]
fn other_models_pass_too() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let script = shared.join("accept/accept.py");
    if !script.exists() {
        println!("skipped: no ../shared/accept/accept.py beside the checkout");
        return;
    }
    let output = Command::new("python3")
        .arg(&script)
        .arg(env!("CARGO_BIN_EXE_larder"))
        .args([
            "--models",
            "^(stories260K|tiny-llama|tiny-llama-q8_0|tiny-llama3-rope|tiny-qwen2|tiny-qwen3-q4_k|tiny-qwen3moe)$",
            "--quick",
        ])
        .output();
    match output {
        Err(error) => println!("skipped: python3 does not start ({error})"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
            println!("{}", said.lines().last().unwrap_or_default());
        }
    }
}
