//! The binary on a poor host: an ordinary user, io_uring refused by a seccomp filter, 8 MiB of
//! memory that may be locked, a model in a folder that may only be read. The text is that of a free
//! run, and the report says what stands in for what is missing.
#![forbid(unsafe_code)]

use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use tempfile::TempDir;

const LARDER: &str = env!("CARGO_BIN_EXE_larder");
/// User and group that own nothing.
const NOBODY: u32 = 65534;
/// Bytes that may be locked.
const MEMLOCK: u64 = 8 << 20;

/// A folder with the binary, a read-only folder with a model, and a folder to write in.
struct Host {
    folder: TempDir,
}

fn set_mode(path: &Path, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).expect("our own file");
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

impl Host {
    fn new() -> Self {
        // Of this test process, hence of what it starts.
        setrlimit(Resource::RLIMIT_MEMLOCK, MEMLOCK, MEMLOCK).expect("less is always allowed");
        let folder = TempDir::new().expect("temp folder");
        let host = Self { folder };
        // Where the checkout lies, nobody may have no way in.
        std::fs::copy(LARDER, host.path("larder")).expect("copy the binary");
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        for name in ["models", "work"] {
            std::fs::create_dir(host.path(name)).expect("a folder");
        }
        let model = assets.join("larder-story.gguf");
        std::fs::copy(model, host.model()).expect("copy the model");
        set_mode(host.folder.path(), 0o755);
        set_mode(&host.path("larder"), 0o755);
        set_mode(&host.model(), 0o444);
        set_mode(&host.path("models"), 0o555);
        set_mode(&host.path("work"), 0o777);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> PathBuf {
        self.path("models/larder-story.gguf")
    }

    /// The binary as an ordinary user: that of this process, or nobody.
    fn larder(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("larder"));
        command
            .args(arguments)
            .current_dir(self.path("work"))
            .env("TMPDIR", self.path("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs it, without io_uring, and reads its JSON.
    fn refused(&self, arguments: &[&str]) -> Value {
        let mut command = self.larder(arguments);
        json(&without_uring(move || command.output().expect("it starts")))
    }

    fn free(&self, arguments: &[&str]) -> Value {
        json(&self.larder(arguments).output().expect("it starts"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // So that its owner can empty it.
        set_mode(&self.path("models"), 0o755);
    }
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Does `start` on a thread that may not use io_uring; neither may what it starts.
fn without_uring<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> T {
    let calls = [
        nix::libc::SYS_io_uring_setup,
        nix::libc::SYS_io_uring_enter,
        nix::libc::SYS_io_uring_register,
    ];
    let filter = SeccompFilter::new(
        calls.map(|call| (call, Vec::new())).into(),
        SeccompAction::Allow,
        SeccompAction::Errno(nix::libc::EPERM as u32),
        std::env::consts::ARCH.try_into().expect("a known machine"),
    );
    let filter: BpfProgram = filter
        .and_then(TryInto::try_into)
        .expect("a filter of three calls");
    let thread = std::thread::spawn(move || {
        apply_filter(&filter).expect("needs no privileges");
        start()
    });
    thread.join().expect("no panic")
}

/// The notes that contain `word`.
fn notes<'a>(report: &'a Value, word: &str) -> Vec<&'a str> {
    let notes = report["notes"].as_array().expect("a list");
    let texts = notes.iter().filter_map(Value::as_str);
    texts.filter(|note| note.contains(word)).collect()
}

const REFUSED: &str = "no io_uring (Operation not permitted (os error 1)): pread threads";

fn run_of<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["run", model, "-p", "One day", "-n", "100", "--json"];
    fixed.iter().chain(more).copied().collect()
}

#[test]
fn a_run_without_io_uring_has_the_same_text_and_says_so_once() {
    let host = Host::new();
    let model = host.model();
    let model = model.to_str().expect("a plain path");
    let free = host.free(&run_of(model, &[]));
    let spill = ["--fast", "600KiB", "--tier", "nvme=spill,64MiB"];
    for more in [&[][..], &spill] {
        let poor = host.refused(&run_of(model, more));
        assert_eq!(poor["text"], free["text"], "{more:?}");
        assert_eq!(poor["tokens"], free["tokens"], "{more:?}");
        assert_eq!(notes(&poor, REFUSED).len(), 1, "{}", poor["notes"]);
        let origin = notes(&poor, "origin>dram by");
        assert_eq!(origin, ["origin>dram by pread threads"]);
        assert_eq!(notes(&poor, "by io_uring"), [""; 0]);
    }
    let spilled = host.refused(&run_of(model, &spill));
    for path in ["dram>nvme", "nvme>dram"] {
        let by = format!("{path} by pread threads");
        assert_eq!(notes(&spilled, path), [by.as_str()]);
    }
}

/// A node, killed when dropped.
struct Node {
    child: Child,
    address: String,
    /// Gives what it says after its address.
    rest: Option<JoinHandle<Vec<String>>>,
}

impl Node {
    fn start(mut command: Command) -> Self {
        let mut child = without_uring(move || command.spawn().expect("a node starts"));
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = lines.next().expect("it says where it is").expect("text");
        let address = line.rsplit_once(" at ").expect("an address").1.to_owned();
        let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Self {
            child,
            address,
            rest: Some(rest),
        }
    }

    /// Ends it; what it said after its address.
    fn end(mut self) -> Vec<String> {
        let _ = self.child.kill();
        let rest = self.rest.take().expect("ended once");
        rest.join().expect("no panic")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_and_its_client_without_io_uring_move_the_same_bytes() {
    let host = Host::new();
    let model = host.model();
    let model = model.to_str().expect("a plain path");
    let listen = ["node", "--listen", "tcp://127.0.0.1:0", "--mem", "16MiB"];
    let node = Node::start(host.larder(&[&listen[..], &["--tcp-only"]].concat()));
    let remote = format!("remote={}", node.address);
    host.refused(&["load", model, "--into", &remote, "--json"]);
    let free = host.free(&run_of(model, &[]));
    let tier = ["--tier", &remote, "--fast", "600KiB"];
    let poor = host.refused(&run_of("remote://larder-story", &tier));
    assert_eq!(poor["text"], free["text"]);
    let origin = notes(&poor, "origin>dram by");
    assert_eq!(origin, ["origin>dram by tcp on socket threads"]);
    let said = node.end();
    let is_told = |line: &String| line.contains("no io_uring for connections: two threads");
    assert_eq!(
        said.iter().filter(|line| is_told(line)).count(),
        1,
        "{said:?}"
    );
}
