//! What a run leaves behind for the next plan of its model, seen from outside.

#![forbid(unsafe_code)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const LARDER: &str = env!("CARGO_BIN_EXE_larder");
/// The link sets the pace of a run, whatever else this machine does.
const LINK: &str = "origin,limit=5MB/s";

fn asset(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("assets")
        .join(name);
    path.to_str().expect("a plain path").to_owned()
}

/// The report of a command on a model under `fast`, whose user's caches are in `caches`.
fn larder(caches: &Path, command: &str, (model, fast): (&str, &str)) -> Value {
    let mut all = vec![command, model, "--fast", fast, "--context", "128"];
    all.extend(["--tier", LINK, "--json"]);
    if command == "run" {
        all.extend(["-p", "Once there was", "-n", "48", "--ignore-eos"]);
    }
    let output = Command::new(LARDER)
        .args(all)
        .env("XDG_CACHE_HOME", caches)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn runs(plan: &Value) -> Option<u64> {
    plan["expert_misses"]["runs"].as_u64()
}

fn speed(report: &Value) -> f64 {
    report["decode_tok_s"].as_f64().expect("a speed")
}

/// Bytes that a decode step brought in.
fn bytes_per_token(run: &Value) -> f64 {
    let link = run["link_mb_s"]["origin>dram"].as_f64();
    link.expect("a rate") * 1e6 / speed(run)
}

/// The files of figures, at most one.
fn kept(caches: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(caches.join("larder/figures")).ok()?;
    let file = files.next()?.expect("an entry").path();
    assert!(files.next().is_none());
    Some(file)
}

#[test]
fn one_run_tells_the_plan_what_the_next_one_will_miss() {
    let caches = TempDir::new().expect("temp folder");
    let model = asset("larder-story-moe.gguf");
    let half = (model.as_str(), "1000KiB");
    assert_eq!(runs(&larder(caches.path(), "plan", half)), Some(0));
    let ran = larder(caches.path(), "run", half);
    let plan = larder(caches.path(), "plan", half);
    assert_eq!(runs(&plan), Some(1));
    let planned = plan["paths"][0]["bytes_per_token"].as_f64();
    let of_plan = bytes_per_token(&ran) / planned.expect("bytes");
    assert!((0.97..1.03).contains(&of_plan), "{of_plan} of the bytes");
    let of_plan = speed(&ran) / speed(&plan);
    assert!((0.9..1.1).contains(&of_plan), "{of_plan} of the plan");

    // What was learned is a curve, so it holds for another budget too.
    let more = (model.as_str(), "1500KiB");
    let plan = speed(&larder(caches.path(), "plan", more));
    let of_plan = speed(&larder(caches.path(), "run", more)) / plan;
    assert!((0.85..1.15).contains(&of_plan), "{of_plan} of the plan");
    assert_eq!(runs(&larder(caches.path(), "plan", half)), Some(2));

    // Nonsense is as good as none, and the next run replaces it.
    let file = kept(caches.path()).expect("two runs left figures");
    std::fs::write(&file, "{").expect("written");
    assert_eq!(runs(&larder(caches.path(), "plan", half)), Some(0));
    let _ = larder(caches.path(), "run", half);
    assert_eq!(runs(&larder(caches.path(), "plan", half)), Some(1));
}

#[test]
fn nothing_is_kept_of_a_dense_model_or_where_nothing_can_be() {
    let caches = TempDir::new().expect("temp folder");
    let dense = asset("larder-story.gguf");
    let _ = larder(caches.path(), "run", (&dense, "1MiB"));
    assert_eq!(kept(caches.path()), None);

    let file = caches.path().join("file");
    std::fs::write(&file, "no folder").expect("written");
    let model = asset("larder-story-moe.gguf");
    let report = larder(&file, "run", (&model, "2MiB"));
    assert_eq!(report["tokens"].as_array().map(Vec::len), Some(48));
    assert_eq!(runs(&larder(&file, "plan", (&model, "2MiB"))), Some(0));
}
