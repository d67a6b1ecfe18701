//! The spill and the process that uses it: held by one, empty after a kill, closed when full.
//!
//! The tests run this very binary again, as the process that is killed or that sees a small disk.

use super::*;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// Tells the child what to do where: `ROLE=FOLDER`.
const ROLE: &str = "LARDER_TEST_SPILL";

/// A child process that is killed and collected whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts this binary in a role; `before` is what starts it, such as `unshare`.
    fn start(before: &[&str], role: &str, folder: &Path) -> std::io::Result<Self> {
        let binary = std::env::current_exe()?;
        let binary = binary.display().to_string();
        let own = [
            binary.as_str(),
            "spill::tests::processes::child",
            "--exact",
            "--nocapture",
        ];
        let words: Vec<&str> = before.iter().copied().chain(own).collect();
        Command::new(words[0])
            .args(&words[1..])
            .env(ROLE, format!("{role}={}", folder.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map(Self)
    }

    /// The rest of the line that begins with `larder:`, once the child prints one.
    fn says(&mut self) -> Option<String> {
        let out = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        let mut lines = out.lines().map_while(Result::ok);
        lines.find_map(|line| Some(line.split_once("larder: ")?.1.to_owned()))
    }
}

/// The life of a child; without a role there is nothing to test.
#[test]
fn child() {
    let Ok(task) = std::env::var(ROLE) else {
        return;
    };
    let (role, folder) = task.split_once('=').expect("ROLE=FOLDER");
    let bench = open(Path::new(folder)).expect("opens");
    bench.make(0);
    let result = bench.spill(0);
    match role {
        "hold" => {
            result.expect("written");
            println!("larder: ready");
            // Until it is killed.
            let _ = std::io::stdin().read(&mut [0]);
        }
        "fill" => {
            result.expect("there is room for one");
            assert!(
                bench
                    .spill
                    .notes()
                    .iter()
                    .any(|note| note.contains("bytes left"))
            );
            bench.make(1);
            let error = bench.spill(1).expect_err("the disk is full");
            assert!(error.is_capacity(), "{error}");
            assert!(bench.mover.is_closed(WRITE) && !bench.mover.is_closed(READ));
            bench.fetch(0).expect("reads go on");
            assert_eq!(
                bench.mover.table().state(home_slot(BlockId::new(1), 0)),
                State::Absent
            );
            println!("larder: {error}");
        }
        _ => unreachable!("no role {role}"),
    }
}

#[test]
fn a_folder_is_held_by_one_process_and_empty_after_its_kill() {
    let folder = tempfile::tempdir().expect("temp folder");
    let bench = open(folder.path()).expect("opens");
    bench.make(0);
    bench.spill(0).expect("written");
    bench.close(1);

    let mut child = Running::start(&[], "hold", folder.path()).expect("starts");
    assert_eq!(child.says().as_deref(), Some("ready"));
    let error = Spill::open(folder.path(), SPILL_BYTES).expect_err("held");
    let owner = format!("in use by process {}", child.0.id());
    assert!(error.to_string().contains(&owner), "{error}");
    drop(child);

    let mut bench = open(folder.path()).expect("the kernel let the lock go");
    assert_eq!(
        bench.take_over(),
        0,
        "neither the kill nor the stop before it"
    );
    assert_eq!(bench.spill.notes(), [""; 0]);
    bench.make(1);
    bench.spill(1).expect("usable");
}

#[test]
fn a_full_disk_closes_the_tier_for_writes() {
    let folder = tempfile::tempdir().expect("temp folder");
    let place = folder.path().display().to_string();
    let script = format!("mount -t tmpfs -o size=2m none '{place}' && exec \"$@\"");
    let before = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &script,
        "sh",
    ];
    let Ok(mut child) = Running::start(&before, "fill", folder.path()) else {
        println!("skipped: no unshare(1) here");
        return;
    };
    if let Some(line) = child.says() {
        let says_why = line.contains("ENOSPC") || line.contains("is it full?");
        assert!(says_why, "{line}");
        return;
    }
    let mut text = String::new();
    let errors = child.0.stderr.as_mut().expect("piped");
    let _ = errors.read_to_string(&mut text);
    assert!(!text.contains("panicked"), "{text}");
    println!("skipped: no small file system here ({})", text.trim());
}
