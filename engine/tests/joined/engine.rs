//! Runs of larder: to their end, or watched while something happens to a node.

use crate::ground::Ground;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// No run here takes this long.
const LONGEST: Duration = Duration::from_mins(2);
/// Between two looks at a link.
const LOOK: Duration = Duration::from_millis(5);

/// Runs larder to its end, and reads its JSON.
pub(crate) fn larder(ground: &Ground, arguments: &[&str]) -> Value {
    let mut command = ground.larder();
    let output = command.args(arguments).arg("--json").output();
    report(arguments, &output.expect("larder starts"))
}

fn report(arguments: &[&str], output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}: {arguments:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The one line and the exit code of a command that fails.
pub(crate) fn fails(ground: &Ground, arguments: &[&str]) -> (String, i32) {
    let output = ground.larder().args(arguments).output();
    failure(&output.expect("larder starts"))
}

fn failure(output: &Output) -> (String, i32) {
    let said = String::from_utf8_lossy(&output.stderr);
    let errors = said.lines().filter(|line| line.starts_with("larder: "));
    let errors: Vec<&str> = errors.collect();
    assert!(errors.len() == 1 && !said.contains("panicked"), "{said}");
    let code = output.status.code().expect("an exit code");
    (errors[0].to_owned(), code)
}

/// A run under way, killed when dropped.
pub(crate) struct Run<'a> {
    ground: &'a Ground,
    arguments: Vec<String>,
    pid: u32,
    start: Instant,
    ended: Receiver<Output>,
    is_over: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn start(ground: &'a Ground, arguments: &[&str]) -> Self {
        let mut command = ground.larder();
        let child = command
            .args(arguments)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("larder starts");
        let (pid, (ends, ended)) = (child.id(), channel());
        std::thread::spawn(move || {
            let output = child.wait_with_output().expect("larder ends");
            // Nobody listens to a run that was given up.
            let _ = ends.send(output);
        });
        Self {
            ground,
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            pid,
            start: Instant::now(),
            ended,
            is_over: false,
        }
    }

    /// Lets the run go on for `time`, in which it must not end.
    pub(crate) fn go_on(&mut self, time: Duration) {
        match self.ended.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("its output is taken once"),
            Ok(output) => {
                self.is_over = true;
                let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
                panic!("the run ended too early: {}", report(&arguments, &output));
            }
        }
    }

    /// Bytes that have come from node `number` so far, also to runs before this one.
    pub(crate) fn received(&mut self, number: usize) -> u64 {
        loop {
            // It may not be where engines run yet.
            if let Some(bytes) = self.ground.received(number, self.pid) {
                return bytes;
            }
            self.look();
        }
    }

    /// Lets the run go on until `bytes` more have come from node `number`.
    pub(crate) fn go_on_until(&mut self, number: usize, bytes: u64) {
        let first = self.received(number);
        while self.received(number) < first + bytes {
            self.look();
        }
    }

    fn look(&mut self) {
        assert!(self.start.elapsed() < LONGEST, "nothing goes on");
        self.go_on(LOOK);
    }

    /// Waits for the end, which is a failure: its line and exit code.
    pub(crate) fn fail(mut self) -> (String, i32) {
        failure(&self.output())
    }

    fn output(&mut self) -> Output {
        let output = self.ended.recv_timeout(LONGEST).expect("a run ends");
        self.is_over = true;
        output
    }

    /// Waits for the end; its report, and the time from the start.
    pub(crate) fn end(mut self) -> (Value, Duration) {
        let output = self.output();
        let time = self.start.elapsed();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        (report(&arguments, &output), time)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = kill(Pid::from_raw(self.pid as i32), Signal::SIGKILL);
        }
    }
}
