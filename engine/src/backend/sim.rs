//! The simulated device: the CPU kernels behind a queue, on a thread of their own.
//!
//! Operations are enqueued and run later, in order, as on a GPU; the queue owns their leases until
//! they have completed. What is read back (tails, picks, logits) waits for the queue to get there.

use crate::backend::cpu::CpuBackend;
use crate::backend::work::{Buf, WorkBuffers};
use crate::backend::{Backend, Completed, Op, Token};
use larder_pool::sys::lease::ReadLease;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Blocks that may be under way at once.
const BLOCKS_AHEAD: usize = 8;

/// What the device is told, in order.
enum Command {
    Run(u64, Op),
    /// Something that needs the backend itself.
    Call(Box<dyn FnOnce(&mut CpuBackend) + Send>),
}

/// What has completed.
#[derive(Default)]
struct Progress {
    /// Operations done so far.
    done: u64,
    /// What they gave back and nobody has taken.
    given: HashMap<u64, Completed>,
    /// The device's thread is gone.
    is_dead: bool,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    news: Condvar,
}

/// See the module.
pub struct SimBackend {
    name: String,
    rows_max: usize,
    queue: Option<Sender<Command>>,
    shared: Arc<Shared>,
    enqueued: u64,
    thread: Option<JoinHandle<()>>,
}

impl SimBackend {
    /// Puts the device's thread in front of `backend`.
    pub fn new(backend: CpuBackend) -> std::io::Result<Self> {
        let (queue, commands) = channel();
        let shared = Arc::new(Shared::default());
        let name = format!("simulated device, {}", backend.name());
        let rows_max = backend.rows_max();
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("larder-device".to_owned())
            .spawn(move || serve(backend, &commands, &ours))?;
        Ok(Self {
            name,
            rows_max,
            queue: Some(queue),
            shared,
            enqueued: 0,
            thread: Some(thread),
        })
    }

    fn tell(&self, command: Command) {
        let queue = self.queue.as_ref().expect("open until dropped");
        // A dead device is found out by whoever waits for it.
        let _ = queue.send(command);
    }

    /// Runs `call` on the device behind everything enqueued, and waits for its answer.
    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut CpuBackend) -> T + Send + 'static,
    ) -> T {
        let (answer, answers) = channel();
        self.tell(Command::Call(Box::new(move |backend| {
            let _ = answer.send(call(backend));
        })));
        answers.recv().expect("the device's thread lives")
    }
}

/// Marks the device dead, however its thread ends.
struct DeathGuard<'a>(&'a Shared);

impl Drop for DeathGuard<'_> {
    fn drop(&mut self) {
        self.0.progress.lock().is_dead = true;
        self.0.news.notify_all();
    }
}

/// The device's life.
fn serve(mut backend: CpuBackend, commands: &Receiver<Command>, shared: &Shared) {
    let _guard = DeathGuard(shared);
    while let Ok(command) = commands.recv() {
        match command {
            Command::Run(number, op) => {
                let token = backend.enqueue(op);
                let completed = backend.finish(token);
                let mut progress = shared.progress.lock();
                progress.done = number + 1;
                if !completed.is_empty() {
                    progress.given.insert(number, completed);
                }
                drop(progress);
                shared.news.notify_all();
            }
            Command::Call(call) => call(&mut backend),
        }
    }
}

impl Backend for SimBackend {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn set_work(&mut self, work: WorkBuffers) -> Option<WorkBuffers> {
        self.rows_max = work.rows;
        self.call(move |backend| backend.set_work(work))
    }

    fn blocks_ahead(&self) -> usize {
        BLOCKS_AHEAD
    }

    fn rows_max(&self) -> usize {
        self.rows_max
    }

    fn enqueue(&mut self, op: Op) -> Token {
        let number = self.enqueued;
        self.enqueued += 1;
        self.tell(Command::Run(number, op));
        Token(number)
    }

    fn is_complete(&self, token: &Token) -> bool {
        self.shared.progress.lock().done > token.0
    }

    /// The device's thread takes each operation as it comes.
    fn flush(&mut self) {}

    fn finish(&mut self, token: Token) -> Completed {
        let mut progress = self.shared.progress.lock();
        while progress.done <= token.0 {
            assert!(!progress.is_dead, "the device's thread lives");
            self.shared.news.wait(&mut progress);
        }
        progress.given.remove(&token.0).unwrap_or_default()
    }

    fn read_probe(&mut self, blocks: &[ReadLease]) -> f64 {
        let blocks = blocks.to_vec();
        self.call(move |backend| backend.read_probe(&blocks))
    }

    fn download(&mut self, buf: Buf, row: usize, out: &mut [f32]) {
        let len = out.len();
        let values = self.call(move |backend| {
            let mut values = vec![0.0; len];
            backend.download(buf, row, &mut values);
            values
        });
        out.copy_from_slice(&values);
    }
}

impl Drop for SimBackend {
    /// Ends the device once everything enqueued has run.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
