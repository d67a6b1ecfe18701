//! `larder heat follow` beside a real process that maps a file and knows nothing of it: the example
//! `reader` of `larder-sys`, told by lines what to do.

#![forbid(unsafe_code)]

mod own_mounts;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_larder");
const MIB: usize = 32;

/// A process that maps a file of its own and reads of it what it is told.
struct Reader {
    child: Child,
    input: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Reader {
    /// Starts it, or says why it cannot be.
    fn start() -> Option<Self> {
        let own = std::env::current_exe().expect("this program");
        let built = own
            .parent()
            .and_then(Path::parent)
            .expect("in target/x/deps");
        let program = built.join("examples/reader");
        if !program.exists() {
            println!("skipped: no reader; cargo build -p larder-sys --example reader");
            return None;
        }
        // On a disk: of a file system in memory nothing can be evicted.
        let folder = match tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")) {
            Ok(folder) => folder,
            Err(error) => {
                println!("skipped: no folder on a disk ({error})");
                return None;
            }
        };
        let file = folder.path().join("pool");
        let mut child = Command::new(program)
            .arg(&file)
            .args([&format!("mib={MIB}"), "signals=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the reader starts");
        let input = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut reader = Self {
            child,
            input,
            answers,
            file,
            _folder: folder,
        };
        reader.answer();
        Some(reader)
    }

    /// The share of its hot ranges that is in memory after it has done `what`.
    fn ask(&mut self, what: &str) -> f64 {
        let input = self.input.as_mut().expect("not ended");
        writeln!(input, "{what}").expect("the reader listens");
        self.answer()
    }

    fn answer(&mut self) -> f64 {
        let line = self.answers.next().expect("an answer").expect("text");
        line.parse().expect("a share")
    }

    /// Whether the hot ranges are back within ten seconds, by nobody's reading.
    fn comes_back(&mut self) -> bool {
        let start = Instant::now();
        while self.ask("share") < 0.95 {
            if start.elapsed() > Duration::from_secs(10) {
                return false;
            }
        }
        true
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Lets it end.
    fn end(&mut self) {
        self.input = None;
        self.child.wait().expect("it ends with its input");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines until one of them contains `what`; all lines, if none does.
fn wait_for(lines: &mut Lines<BufReader<ChildStderr>>, what: &str) -> Result<String, String> {
    let mut seen = String::new();
    for line in lines.map_while(Result::ok) {
        if line.contains(what) {
            return Ok(line);
        }
        seen = format!("{seen}{line}\n");
    }
    Err(seen)
}

fn object(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("one JSON object")
}

#[test]
fn what_a_reader_uses_comes_back_after_an_eviction() {
    let Some(mut reader) = Reader::start() else {
        return;
    };
    assert!(reader.ask("read") > 0.99, "it has read them");
    let mut follow = Command::new(BINARY)
        .args(["heat", "follow", "--fast", "64MiB", "--json"])
        .args(["--pins", "/none"])
        .arg(&reader.file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(follow.stderr.take().expect("piped")).lines();
    wait_for(&mut lines, "stand in for the faults").expect("said once");
    let pid = reader.pid();
    wait_for(
        &mut lines,
        &format!("process {pid} maps it; seen by page tables"),
    )
    .expect("seen");
    reader.ask("evict");
    assert!(reader.comes_back(), "the hot ranges are not back");
    kill(Pid::from_raw(follow.id() as i32), Signal::SIGINT).expect("it runs");
    let Output { status, stdout, .. } = follow.wait_with_output().expect("it ends");
    assert!(status.success());
    let report = object(&stdout);
    assert_eq!(report["bytes"], MIB << 20);
    assert_eq!(report["readers"][0]["pid"], reader.child.id());
    let bytes = |name: &str| report[name].as_u64().expect("a number");
    assert!(bytes("brought_bytes") > 4 << 20, "{report}");
    assert!(bytes("chosen_bytes") <= 64 << 20, "{report}");
    assert!(
        bytes("hot_bytes") < 16 << 20,
        "a fifth, and what is around: {report}"
    );
    reader.end();
}

#[test]
fn what_is_kept_cannot_be_evicted() {
    let Some(mut reader) = Reader::start() else {
        return;
    };
    reader.ask("read");
    let follow = Command::new(BINARY)
        .args(["heat", "follow", "--keep", "--json", "--pins", "/none"])
        .args(["--pid", &reader.pid()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut follow = follow.expect("the binary starts");
    let mut lines = BufReader::new(follow.stderr.take().expect("piped")).lines();
    let seen = format!("process {} maps it", reader.pid());
    wait_for(&mut lines, &seen).expect("seen");
    // The line after it is the state, or that nothing may be locked.
    let next = lines.next().expect("a line").expect("text");
    if next.contains("lock hot blocks") {
        reader.end();
        follow.wait().expect("it ends with the reader");
        return println!("skipped: {next}");
    }
    assert!(reader.ask("evict") > 0.95, "{next}");
    reader.end();
    let Output { status, stdout, .. } = follow.wait_with_output().expect("it ends");
    assert!(status.success());
    let report = object(&stdout);
    assert!(
        report["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("/pool"))
    );
    assert!(report["readers"].is_array());
}

/// Whether probes start here.
const TRIED: &str = r#"
set -e
mount -t bpf bpf /sys/fs/bpf
"$0" heat start
"$0" heat stop
"#;

/// Probes in a mount namespace of their own; `follow` ends with the reader.
const PROBED: &str = r#"
set -e
mount -t bpf bpf /sys/fs/bpf
"$0" heat start >&2
"$0" heat follow --pid "$1" --fast 64MiB --json
"$0" heat status --json > "$2/status.json"
"$0" heat --json > "$2/heat.json"
"$0" heat stop >&2
"#;

#[test]
fn probes_see_the_faults_of_a_reader() {
    let Some(mut reader) = Reader::start() else {
        return;
    };
    reader.ask("read");
    let out = tempfile::tempdir().expect("temp folder");
    if let Err(reason) = own_mounts::run(TRIED, BINARY, [""; 0], out.path()) {
        return println!("skipped: {reason}");
    }
    let script = Command::new("unshare")
        .args(["-m", "sh", "-c", PROBED, BINARY, &reader.pid()])
        .arg(out.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut script = script.expect("as before");
    let mut lines = BufReader::new(script.stderr.take().expect("piped")).lines();
    let seen = format!(
        "process {} maps it; seen by probes, block_heat_0",
        reader.pid()
    );
    wait_for(&mut lines, &seen).expect("seen");
    reader.ask("evict");
    assert!(reader.comes_back(), "the hot ranges are not back");
    // Its pages are there, but not mapped: this faults, and the probes count.
    reader.ask("read");
    reader.end();
    assert!(
        wait_for(&mut lines, "removed ").is_ok(),
        "it ends with the reader"
    );
    let Output { status, stdout, .. } = script.wait_with_output().expect("it ends");
    assert!(status.success());
    assert!(object(&stdout)["brought_bytes"].as_u64() > Some(4 << 20));
    let read = |name: &str| object(&std::fs::read(out.path().join(name)).expect("written"));
    let heat = read("heat.json");
    let blocks = heat["arrays"][0]["blocks"].as_array().expect("a list");
    assert_eq!(blocks.len(), (MIB << 20) / (64 << 10));
    let faulted = blocks
        .iter()
        .filter(|block| block["faults"].as_u64() > Some(0));
    // A fifth of the file, four blocks in each range.
    let hot = MIB * 4 / 5 * 4;
    assert!((hot * 9 / 10..hot * 2).contains(&faulted.count()), "{heat}");
    assert_eq!(
        read("status.json")["arrays"][0]["owner_pid"],
        0,
        "given back"
    );
}

#[test]
fn what_cannot_be_followed_is_one_line() {
    let folder = tempfile::tempdir().expect("temp folder");
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").expect("written");
    let missing = text(&folder.path().join("missing"));
    for (arguments, code, says) in [
        (&[missing.as_str()][..], 1, "No such file"),
        (&[&text(folder.path())], 1, "no regular file"),
        (&["/dev/zero"], 1, "no regular file"),
        (&[&text(&empty)], 1, "it is empty"),
        (&["--pid", "4194305"], 1, "no such process"),
        (&[BINARY, "--pid", "4194305"], 1, "no such process"),
        (&[BINARY, "--fast", "much"], 2, "--fast: 'much' is no size"),
        (&[], 2, "required arguments"),
    ] {
        let output = Command::new(BINARY)
            .args(["heat", "follow", "--for", "0"])
            .args(arguments)
            .output()
            .expect("the binary starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
    let own = folder.path().join("own");
    std::fs::write(&own, "seven".repeat(9000)).expect("written");
    let output = Command::new(BINARY)
        .args(["heat", "follow", "--for", "0", "--json", &text(&own)])
        .output();
    let report = object(&output.expect("the binary starts").stdout);
    assert_eq!(
        report["readers"].as_array().map(Vec::len),
        Some(0),
        "nobody maps it"
    );
}
