//! The file through tokio-uring: a current-thread runtime on a thread of its own.
//!
//! Source: tokio-uring 0.5, which has no maintainer and is confined to this module. Callers block
//! until their answer comes, so when the file is dropped nothing is in flight.

use super::TierFile;
use crate::lease::Scratch;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, mpsc as answers};
use std::thread::JoinHandle;
use tokio::sync::mpsc as commands;
use tokio_uring::buf::{IoBuf, IoBufMut};

/// Bytes of one operation; measured: larger ones only add latency.
const PIECE: usize = 1 << 20;
/// Operations of one call in flight.
const AHEAD: usize = 4;

/// What the thread is asked, with where the answer goes.
enum Command {
    Write {
        offset: u64,
        bytes: Arc<Scratch>,
        answer: answers::SyncSender<io::Result<()>>,
    },
    Read {
        offset: u64,
        target: Scratch,
        answer: answers::SyncSender<(Scratch, io::Result<()>)>,
    },
}

/// See the module.
#[derive(Debug)]
pub struct TokioFile {
    /// `None` once the file is dropped, which ends the thread.
    commands: Option<commands::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl TokioFile {
    /// Starts the thread; fails where io_uring is refused, and gives the file back.
    pub fn new(file: File) -> Result<Self, (File, io::Error)> {
        let (sender, receiver) = commands::unbounded_channel();
        let (ready, started) = answers::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("larder-tier-file".to_owned())
            .spawn(move || run(file, receiver, &ready))
            .expect("the system has a thread left");
        match started.recv() {
            Ok(None) => Ok(Self {
                commands: Some(sender),
                thread: Some(thread),
            }),
            Ok(Some(refused)) => Err(refused),
            Err(_) => unreachable!("the thread answers before anything else"),
        }
    }

    fn tell(&self, command: Command) {
        let commands = self.commands.as_ref().expect("kept until the drop");
        // A thread that is gone drops the answer's sender, which the caller notices.
        let _ = commands.send(command);
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread of the disk tier has ended")
}

impl TierFile for TokioFile {
    fn name(&self) -> &'static str {
        "tokio-uring"
    }

    fn write(&self, offset: u64, bytes: Arc<Scratch>) -> io::Result<()> {
        let (answer, answered) = answers::sync_channel(1);
        self.tell(Command::Write {
            offset,
            bytes,
            answer,
        });
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }

    fn read(&self, offset: u64, target: Scratch) -> (Scratch, io::Result<()>) {
        let (answer, answered) = answers::sync_channel(1);
        self.tell(Command::Read {
            offset,
            target,
            answer,
        });
        answered
            .recv()
            .expect("the thread lives as long as the file")
    }
}

impl Drop for TokioFile {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's life: a runtime, and a task for each command.
fn run(
    file: File,
    mut commands: commands::UnboundedReceiver<Command>,
    ready: &answers::SyncSender<Option<(File, io::Error)>>,
) {
    let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Some((file, error)));
            return;
        }
    };
    let _ = ready.send(None);
    runtime.block_on(async move {
        let file = Rc::new(tokio_uring::fs::File::from_std(file));
        while let Some(command) = commands.recv().await {
            let file = Rc::clone(&file);
            tokio_uring::spawn(async move {
                match command {
                    Command::Write {
                        offset,
                        bytes,
                        answer,
                    } => {
                        let written = write(&file, offset, bytes).await;
                        let _ = answer.send(written);
                    }
                    Command::Read {
                        offset,
                        target,
                        answer,
                    } => {
                        let read = read(&file, offset, target).await;
                        let _ = answer.send(read);
                    }
                }
            });
        }
    });
}

/// Part of an object that is written; the handle pins it.
struct Shared {
    bytes: Arc<Scratch>,
    range: Range<usize>,
}

// SAFETY: the range is inside the scratch, whose memory does not move when the handle does, and
// which the handle keeps alive; nobody writes it while it is shared.
unsafe impl IoBuf for Shared {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes.bytes()[self.range.clone()].as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.range.len()
    }

    fn bytes_total(&self) -> usize {
        self.range.len()
    }
}

/// What is left of a target that is read into.
struct Target {
    scratch: Scratch,
    range: Range<usize>,
}

// SAFETY: as for `Shared`; the scratch is owned, so nobody else reaches its bytes.
unsafe impl IoBuf for Target {
    fn stable_ptr(&self) -> *const u8 {
        self.scratch.bytes()[self.range.clone()].as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.range.len()
    }

    fn bytes_total(&self) -> usize {
        self.range.len()
    }
}

// SAFETY: the memory is initialised from the start (mappings start zeroed), so `set_init` has
// nothing to note.
unsafe impl IoBufMut for Target {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        let range = self.range.clone();
        self.scratch.bytes_mut()[range].as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _position: usize) {}
}

async fn write(
    file: &Rc<tokio_uring::fs::File>,
    offset: u64,
    bytes: Arc<Scratch>,
) -> io::Result<()> {
    let len = bytes.bytes().len();
    let starts: Vec<usize> = (0..len).step_by(PIECE).collect();
    for some in starts.chunks(AHEAD) {
        let tasks = some.iter().map(|&start| {
            let (file, bytes) = (Rc::clone(file), Arc::clone(&bytes));
            let range = start..(start + PIECE).min(len);
            tokio_uring::spawn(async move { write_piece(&file, offset, bytes, range).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap_or_else(|_| Err(gone()))?;
        }
    }
    Ok(())
}

async fn write_piece(
    file: &tokio_uring::fs::File,
    offset: u64,
    bytes: Arc<Scratch>,
    mut range: Range<usize>,
) -> io::Result<()> {
    while !range.is_empty() {
        let part = Shared {
            bytes: Arc::clone(&bytes),
            range: range.clone(),
        };
        let position = offset + range.start as u64;
        let (written, _) = file.write_at(part, position).submit().await;
        match written? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            some => range.start += some,
        }
    }
    Ok(())
}

async fn read(
    file: &tokio_uring::fs::File,
    offset: u64,
    scratch: Scratch,
) -> (Scratch, io::Result<()>) {
    let range = 0..scratch.bytes().len();
    let mut target = Target { scratch, range };
    while !target.range.is_empty() {
        let position = offset + target.range.start as u64;
        let (read, back) = file.read_at(target, position).await;
        target = back;
        match read {
            Ok(0) => return (target.scratch, Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(some) => target.range.start += some,
            Err(error) => return (target.scratch, Err(error)),
        }
    }
    (target.scratch, Ok(()))
}
