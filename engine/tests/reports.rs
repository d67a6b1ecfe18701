//! The reports of `run`, `plan` and `bench`, seen from outside: the same words in the same order,
//! on terminals of any width and in a pipe, all explained in the guide; the drawing of a run.

#![forbid(unsafe_code)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const LARDER: &str = env!("CARGO_BIN_EXE_larder");
const GUIDE: &str = include_str!("../../docs/guide/report.md");
/// Rows that say the same in every report that has them, in their order.
const SHARED: [&str; 12] = [
    "prompt",
    "first token",
    "decode",
    "bound",
    "of bound",
    "fast tier",
    "memory peak",
    "link busy",
    "over need",
    "stall",
    "backend",
    "note",
];

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets")
}

/// The arguments of a command on the demo model with experts, under a small budget.
fn arguments(command: &str) -> Vec<String> {
    let model = assets().join("larder-story-moe.gguf");
    let model = model.to_str().expect("a plain path");
    let mut all = vec![command, model, "--fast", "600KiB", "--context", "128"];
    all.extend(["--tier", "nvme=spill,16MiB"]);
    match command {
        "run" => all.extend(["-p", "Once", "-n", "70", "--ignore-eos"]),
        "bench" => all.extend(["-n", "70"]),
        _ => {}
    }
    all.into_iter().map(str::to_owned).collect()
}

fn larder(folder: &TempDir, arguments: &[String]) -> Output {
    let output = Command::new(LARDER)
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output
}

/// Both outputs of a command whose outputs are pipes.
fn piped(command: &str) -> String {
    let folder = TempDir::new().expect("temp folder");
    let output = larder(&folder, &arguments(command));
    let both = [output.stderr, output.stdout].concat();
    String::from_utf8(both).expect("text")
}

/// What a terminal of `columns` columns shows; `None` if none can be had.
fn shown(command: &str, columns: usize) -> Option<String> {
    let folder = TempDir::new().expect("temp folder");
    let words = arguments(command).join(" ");
    let line = format!("stty cols {columns} rows 24; exec {LARDER} {words}");
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output();
    let text = match output {
        Ok(output) if output.status.success() => output.stdout,
        _ => {
            println!("skipped: no terminal can be had (script of bsdutils, stty of coreutils)");
            return None;
        }
    };
    Some(String::from_utf8(text).expect("text").replace('\r', ""))
}

/// Labels of the rows of a table, in order, each once.
fn labels(text: &str) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for line in text.lines() {
        let Some(row) = line.strip_prefix("  ").filter(|row| !row.starts_with(' ')) else {
            continue;
        };
        let label = row.split("  ").next().unwrap_or_default().to_owned();
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

#[test]
fn a_pipe_gets_plain_rows() {
    for command in ["run", "plan", "bench"] {
        let text = piped(command);
        assert!(!text.contains(['\u{1b}', '\r', '\u{8}']), "{text:?}");
        // However long, a row is one line there.
        assert!(!text.lines().any(|line| line.starts_with("   ")), "{text}");
        assert!(labels(&text).len() > 8, "{text}");
    }
}

#[test]
fn rows_fit_the_terminal() {
    for command in ["run", "plan", "bench"] {
        for columns in [60, 200] {
            let Some(text) = shown(command, columns) else {
                return;
            };
            let rows = text.lines().filter(|line| line.starts_with("  "));
            let rows: Vec<&str> = rows.collect();
            assert!(rows.len() > 8, "{text}");
            for row in &rows {
                assert!(row.chars().count() <= columns, "{columns}: {row}");
            }
            let wraps = rows.iter().any(|row| row.starts_with("   "));
            assert!(wraps || columns > 60, "nothing wraps: {text}");
            assert_eq!(labels(&text), labels(&piped(command)), "{columns}");
        }
    }
}

#[test]
fn reports_use_the_same_words_in_the_same_order() {
    for command in ["run", "plan", "bench"] {
        let labels = labels(&piped(command));
        let shared: Vec<&str> = labels
            .iter()
            .map(String::as_str)
            .filter(|label| SHARED.contains(label))
            .collect();
        let order = SHARED.iter().filter(|label| shared.contains(label));
        assert_eq!(shared, order.copied().collect::<Vec<_>>(), "{command}");
        let least = if command == "plan" { 5 } else { SHARED.len() };
        assert!(shared.len() >= least, "{command}: {shared:?}");
    }
}

#[test]
fn the_guide_explains_every_row_and_every_field() {
    let folder = TempDir::new().expect("temp folder");
    for command in ["run", "plan", "bench"] {
        let own = ["dram", "nvme", "origin"];
        for label in labels(&piped(command)) {
            let is_known = label.contains('>') || own.contains(&label.as_str());
            let row = format!("| {label} |");
            assert!(is_known || GUIDE.contains(&row), "{command}: {label}");
        }
        let mut json = arguments(command);
        json.push("--json".to_owned());
        let report: Value =
            serde_json::from_slice(&larder(&folder, &json).stdout).expect("one JSON object");
        for field in report.as_object().expect("an object").keys() {
            let named = format!("`{field}`");
            assert!(GUIDE.contains(&named), "{command} --json: {field}");
        }
    }
}

#[test]
fn the_drawing_has_a_line_per_tier_and_per_path_that_moved() {
    let folder = TempDir::new().expect("temp folder");
    let mut run = arguments("run");
    run.extend(["--json", "--plot", "run.svg"].map(str::to_owned));
    let report: Value =
        serde_json::from_slice(&larder(&folder, &run).stdout).expect("one JSON object");
    let text = std::fs::read_to_string(folder.path().join("run.svg")).expect("the drawing");
    assert!(text.starts_with("<svg xmlns=") && text.ends_with("</svg>\n"));
    let titles: BTreeSet<&str> = text
        .split("<title>")
        .skip(1)
        .filter_map(|rest| rest.split("</title>").next())
        .collect();
    let mut names = BTreeSet::from([
        "dram of 600.0 KiB".to_owned(),
        "nvme of 16.0 MiB".to_owned(),
    ]);
    let moved = report["bytes_moved"].as_object().expect("an object");
    let moved = moved.iter().filter(|(_, bytes)| bytes.as_u64() > Some(0));
    names.extend(moved.map(|(path, _)| path.replace('>', "&gt;")));
    assert_eq!(titles, names.iter().map(String::as_str).collect());
    assert_eq!(text.matches("<polyline").count(), names.len());
}
